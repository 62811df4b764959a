"""`trellis call`"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trellis.chains import Step, steps
from trellis.failures import NOT_CONVERGED, failure
from trellis.local import Granted, alone, grant_options, guest_failed, run_locally
from trellis.options import Where, data_options, output_option, place_options, where
from trellis.output import Output

if TYPE_CHECKING:
    from actors.types import InterfaceType
    from lattice import EntityId, Handler
    from trellis.functions import Exported


TIMEOUT = 30.0

USE_INSTEAD = {
    "wasi:http/incoming-handler": "trellis serve {file}",
    "wasi:cli/run": "trellis run {file}",
}


class Call(click.Command):
    """The command line of `call`, which has an answer for `-7`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if not error.option_name.lstrip("-")[:1].isdigit():
                raise
            message = f"`{error.option_name}` looks like an option; write -- before it, if it is a number"
            raise click.UsageError(message, ctx) from None


@dataclass(frozen=True, slots=True)
class Asked:
    """What to call, and how to print its answer."""

    function: str
    texts: tuple[str, ...] = ()
    raw: bool = False
    json: bool = False

    @property
    def steps(self) -> list[Step]:
        return steps((self.function, *self.texts))


@click.command(cls=Call)
@click.argument("target", metavar="FILE.wasm|ACTOR")
@click.argument("function", metavar="INTERFACE#FUNCTION")
@click.argument("texts", metavar="[JSON]...", nargs=-1)
@click.option("--raw", is_flag=True, help="Write a result of text or bytes as it is, not as JSON.")
@grant_options(TIMEOUT)
@output_option
@place_options
@data_options
def command(
    target: str,
    function: str,
    texts: tuple[str, ...],
    raw: bool,
    granted: Granted,
    output: Output,
    nats: str | None,
    lattice: str | None,
) -> int:
    """Call a function that a component exports, and print its result.

    The component is a file, which runs alone here with what the options grant it, or an actor of the lattice (its id,
    or its name in an app), which runs where it runs.

    Arguments and result are JSON: a record is an object, a variant a case's name or {"case": payload}, bytes are
    {"$bytes": "base64"}. Write -- before arguments that begin with a minus sign. With -o json the result is
    {"ok": ...} or {"err": ...}.

    \b
    trellis call add.wasm docs:adder/add@0.1.0#add 20 22
    trellis call text.wasm shout '"hello"' --raw
    trellis call counter demo:counter/count#next --timeout 2
    trellis call shop.wasm cart 3 then cart.add @1 '"tea"' then cart.total @1

    The last line makes several calls of one instance: `then` begins the next one, and @1 is what the first returned,
    @2[0] or @2.name a part of what the second did. So resources are made and used. The last result is printed.
    """
    if raw and not output.text:
        raise click.UsageError("--raw and -o json exclude each other")
    asked = Asked(function, texts, raw, not output.text)
    file = Path(target)
    if file.is_file():
        return run_locally(call(file, asked, granted))
    if "/" in target or file.suffix in (".wasm", ".wat"):
        raise failure("TRL-CLI-001", f"{target} is not a file", fix="trellis build, or look at its path")
    if granted != Granted(timeout=granted.timeout):
        raise failure(
            "TRL-CLI-001",
            f"`{target}` is no file here, and an actor of the lattice takes no grants from a call",
            fix="leave out all but --timeout; what it may reach is said in its manifest",
        )
    from trellis.running import run

    return run(call_actor(where(nats, lattice), target, asked, granted.timeout or TIMEOUT))


async def call(file: Path, asked: Asked, granted: Granted) -> int:
    """Call it alone, here; the exit code. Raises Failure or BadInput."""
    from actors import Session
    from lattice import BadValue, Invocation, LatticeError, Value

    async with alone(file, granted) as actor:
        calls = chosen(asked, actor.component.exports, methods=True)
        for function, _ in calls:
            instead = USE_INSTEAD.get(function.interface.key)
            if instead is not None:
                raise failure("TRL-CAL-001", f"{function.title} has a verb of its own", fix=instead.format(file=file))
            if actor.exports[function.function.key].function.version != function.interface.version:
                raise failure("TRL-CAL-001", f"{function.title} cannot be called: another version of it is in the way")
        try:
            if len(calls) == 1 and not calls[0][0].signature.handles():
                return await answered(actor.handle, actor.id, calls, asked)
            async with Session(actor) as session:

                async def handle(invocation: Invocation) -> Value:
                    value: Value = await session.call(invocation.function, *invocation.args)
                    return value

                return await answered(handle, actor.id, calls, asked)
        except BadValue as error:
            raise failure("TRL-CAL-002", error.message) from error
        except LatticeError as error:
            raise guest_failed(error) from error


async def call_actor(place: Where, target: str, asked: Asked, seconds: float) -> int:
    """Call it where it runs; the exit code. Raises Failure."""
    from lattice import Invocation, LatticeError, Value
    from lattice.presence import routes
    from trellis.calling import exports_of, not_answered
    from trellis.session import joined

    async with joined(place, calling=True) as lattice, routes(lattice) as routed:
        id, exports = await exports_of(lattice, routed, target, seconds)
        calls = chosen(asked, exports)
        if len(calls) > 1 or calls[0][0].signature.handles():
            raise failure(
                "TRL-CAL-001",
                f"{calls[-1][0].title} cannot be called so on the lattice",
                why="each call has an instance of its own there: a resource of one is gone before the next",
                fix="trellis call FILE.wasm ...  calls the component here, in one instance",
            )

        async def handle(invocation: Invocation) -> Value:
            return await routed.route(invocation.within(seconds))

        try:
            return await answered(handle, id, calls, asked)
        except LatticeError as error:
            raise not_answered(error, id) from error


def chosen(
    asked: Asked, exports: Iterable[InterfaceType], *, methods: bool = False
) -> list[tuple[Exported, tuple[str, ...]]]:
    """The functions that are meant, and their arguments as they are written. Raises Failure."""
    from trellis.functions import functions, named

    exported = functions(exports, methods=methods)
    return [(named(step.function, exported), step.texts) for step in asked.steps]


async def answered(handle: Handler, id: EntityId, calls: list[tuple[Exported, tuple[str, ...]]], asked: Asked) -> int:
    """Call one function after the other, and print what the last answers, or the first `err`; the exit code.

    Raises Failure for arguments that do not fit, and LatticeError when there is no answer.
    """
    from actors import types
    from actors.json_values import dumps, to_json
    from lattice import Invocation, Value, WitError
    from trellis.functions import arguments

    last = calls[-1][0]
    if asked.raw and last.sides[0] not in (types.Primitive("string"), types.List(types.Primitive("u8"))):
        returned = "nothing" if last.sides[0] is None else types.text(last.sides[0])
        raise failure("TRL-CLI-001", f"--raw is for text and bytes; {last.title} returns {returned}")
    results: list[Value] = []
    for function, texts in calls:
        values = arguments(function, texts, results)
        try:
            results.append(await handle(Invocation(id, function.function, tuple(values))))
        except WitError as error:
            err = function.sides[1]
            click.echo(dumps({"err": None if err is None else to_json(error.payload, err)}))
            return NOT_CONVERGED
    if asked.raw:
        click.echo(results[-1], nl=False)
        return 0
    ok = last.sides[0]
    data = None if ok is None else to_json(results[-1], ok)
    click.echo(dumps({"ok": data} if asked.json else data))
    return 0
