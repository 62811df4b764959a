"""`trellis call`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trellis.failures import NOT_CONVERGED, failure
from trellis.local import Granted, alone, grant_options, guest_failed, run_locally, wasm_argument

if TYPE_CHECKING:
    from trellis.functions import Exported

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


@click.command(cls=Call)
@wasm_argument
@click.argument("function", metavar="INTERFACE#FUNCTION")
@click.argument("texts", metavar="[JSON]...", nargs=-1)
@click.option("--raw", is_flag=True, help="Write a result of text or bytes as it is, not as JSON.")
@grant_options(30)
def command(file: Path, function: str, texts: tuple[str, ...], raw: bool, granted: Granted) -> int:
    """Call a function that a component exports, and print its result.

    Arguments and result are JSON: a record is an object, a variant a case's name or {"case": payload}, bytes are
    {"$bytes": "base64"}. Write -- before arguments that begin with a minus sign.

    \b
    trellis call add.wasm docs:adder/add@0.1.0#add 20 22
    trellis call text.wasm shout '"hello"' --raw
    """
    return run_locally(call(file, function, texts, granted, raw=raw))


async def call(file: Path, asked: str, texts: tuple[str, ...], granted: Granted, *, raw: bool = False) -> int:
    """Call it and print what it answers; the exit code. Raises Failure or BadInput."""
    from actors import types
    from actors.json_values import dumps, to_json
    from lattice import EntityId, Invocation, LatticeError, WitError
    from trellis.functions import arguments, functions, named

    async with alone(file, granted) as actor:
        function = named(asked, functions(actor.component.exports))
        _refuse_other_verbs(file, function)
        if actor.exports[function.function.key].function.version != function.interface.version:
            raise failure("TRL-CAL-001", f"{function.title} cannot be called: another version of it is in the way")
        values = arguments(function, texts)
        result = function.signature.result
        ok, err = (result.ok, result.err) if isinstance(result, types.Result) else (result, None)
        if raw and ok not in (types.Primitive("string"), types.List(types.Primitive("u8"))):
            returned = "nothing" if ok is None else types.text(ok)
            raise failure("TRL-CLI-001", f"--raw is for text and bytes; {function.title} returns {returned}")
        invocation = Invocation(EntityId(actor.id), function.function, tuple(values))
        try:
            value = await actor.handle(invocation)
        except WitError as error:
            click.echo(dumps({"err": None if err is None else to_json(error.payload, err)}))
            return NOT_CONVERGED
        except LatticeError as error:
            raise guest_failed(error) from error
        if raw:
            click.echo(value, nl=False)
        else:
            click.echo(dumps(None if ok is None else to_json(value, ok)))
    return 0


def _refuse_other_verbs(file: Path, function: Exported) -> None:
    instead = USE_INSTEAD.get(function.interface.key)
    if instead is not None:
        raise failure("TRL-CAL-001", f"{function.title} has a verb of its own", fix=instead.format(file=file))
