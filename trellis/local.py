"""A component on its own, without a lattice: what `call`, `serve` and `run` share.

It gets what its options grant, and nothing else:

| option        | grants                                                              |
|---------------|---------------------------------------------------------------------|
| --dir         | a folder, through wasi:filesystem                                   |
| --env         | an environment variable                                             |
| --config      | a value of wasi:config                                              |
| --allow-net   | sockets to a host and port, and looking up its name                 |
| --allow-http  | requests to a host                                                  |
| --kv          | wasi:keyvalue, in memory, gone when the command ends                |
| --timeout     | time for one call                                                   |
| --memory      | bytes for each of its memories                                      |
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trellis.failures import NOT_CONVERGED, Failure, failure
from trellis.options import Seconds
from trellis.size import size

if TYPE_CHECKING:
    from actors import Actor
    from actors.grants import Grants
    from actors.guest import OnLine
    from actors.stdio import Stdio
    from lattice import EntityId, Handler, Invocation, LatticeError, Value

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

KEYVALUE = ("store", "atomics", "batch")
FRAMES_SHOWN = 5
PATIENCE = 2.0
"""Seconds without a sign of life."""

OPTION_FOR = {
    "wasi:filesystem/": "--dir HOST::GUEST:rw",
    "wasi:sockets/": "--allow-net HOST:PORT",
    "wasi:http/": "--allow-http HOST",
    "wasi:keyvalue/": "--kv",
}
"""What allows a denied interface, by prefix."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What the options of a command say, as they were written."""

    dirs: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    net: tuple[str, ...] = ()
    http: tuple[str, ...] = ()
    kv: bool = False
    timeout: float | None = None
    memory: int | None = None
    arguments: tuple[str, ...] = field(default=(), kw_only=True)

    def grants(self) -> Grants:
        """Raises Failure for what cannot be granted."""
        from actors.grants import Grants, Preopen
        from lattice.allow import WEB_PORTS, AllowList

        try:
            directories = tuple(Preopen.parse(text) for text in self.dirs)
            AllowList.parse(self.net)
            AllowList.parse(self.http, WEB_PORTS)
        except ValueError as error:
            raise failure("TRL-CLI-001", str(error)) from error
        for directory in directories:
            if not directory.host.is_dir():
                raise failure("TRL-CLI-002", f"cannot grant {directory.host}: there is no such folder")
        return Grants(directories, self.net, self.http)


def grant_options(seconds: float | None) -> Callable[[F], F]:
    """The options of the table above; the command gets them as `granted: Granted`. `seconds` is the default time."""

    def decorate(function: F) -> F:
        @wraps(function)
        def command(
            *args: Any,
            dirs: tuple[str, ...],
            env: tuple[str, ...],
            config: tuple[str, ...],
            net: tuple[str, ...],
            http: tuple[str, ...],
            kv: bool,
            timeout: float | None,
            memory: int | None,
            **kwargs: Any,
        ) -> Any:
            return function(*args, granted=Granted(dirs, env, config, net, http, kv, timeout, memory), **kwargs)

        shown = "none" if seconds is None else f"{seconds:g}"
        for option in reversed(
            (
                click.option(
                    "--dir", "dirs", metavar="HOST::GUEST[:rw]", multiple=True, help="Grant a folder, read-only or :rw."
                ),
                click.option("--env", metavar="K=V", multiple=True, help="Set an environment variable."),
                click.option("--config", metavar="K=V", multiple=True, help="Set a value of wasi:config."),
                click.option(
                    "--allow-net", "net", metavar="HOST:PORT", multiple=True, help="Allow sockets to reach this."
                ),
                click.option(
                    "--allow-http", "http", metavar="HOST[:PORT]", multiple=True, help="Allow requests to this."
                ),
                click.option("--kv", is_flag=True, help="Give it a key-value store in memory."),
                click.option(
                    "--timeout",
                    type=Seconds(min=0, min_open=True),
                    default=seconds,
                    metavar="SECONDS",
                    help=f"Time for one call.  [default: {shown}]",
                ),
                click.option(
                    "--memory", type=size, metavar="SIZE", help="Memory it may have, such as 64Mi.  [default: 256Mi]"
                ),
            )
        ):
            command = option(command)
        return command  # type: ignore[return-value]

    return decorate


def wasm_argument(function: F) -> F:
    return click.argument("file", metavar="FILE.wasm", type=click.Path(path_type=Path, exists=True, dir_okay=False))(
        function
    )


def pairs(option: str, given: tuple[str, ...]) -> dict[str, str]:
    """`("a=1",)` -> `{"a": "1"}`; the last of equal keys counts. Raises Failure."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise failure("TRL-CLI-001", f"{option} {text}: expected KEY=VALUE")
        found[key] = value
    return found


# -- running it


def run_locally(work: Coroutine[Any, Any, T]) -> T:
    """Run a verb of one component. Warnings show: among them what the guest was denied, and which option allows it."""
    import asyncio

    show_denials()
    return asyncio.run(work)


def show_denials() -> None:
    import structlog

    from trellis.logs import configure

    configure("text", "warning")
    structlog.configure(processors=[_name_the_option, *structlog.get_config()["processors"]])


def _name_the_option(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if event.get("event") == "guest.denied":
        for prefix, option in OPTION_FOR.items():
            if str(event.get("interface")).startswith(prefix):
                event["option"] = option
    return event


def to_stderr(_: Invocation | None, __: str, line: str) -> None:
    """What guests print, where their answer goes to stdout."""
    click.echo(line, err=True)


@asynccontextmanager
async def alone(
    file: Path,
    granted: Granted,
    *,
    on_line: OnLine | None = to_stderr,
    stdio: Stdio | None = None,
    peer: Handler | None = None,
) -> AsyncIterator[Actor]:
    """The component in `file` as an actor. Raises BadInput or Failure when it cannot be one.

    `peer` answers the imports that would need a link, where no option grants them. At the end its calls are done, and
    everything that was opened for it is closed.
    """
    grants = granted.grants()
    environment, config = pairs("--env", granted.env), pairs("--config", granted.config)

    import actors.wasi  # noqa: F401  what the host serves
    from actors import Actor, Engine, Limits

    limits = Limits(execution=granted.timeout or math.inf)
    if granted.memory is not None:
        limits = Limits(execution=limits.execution, memory=granted.memory)
    id = _id_of(file)
    engine = Engine()
    try:
        with _waiting(f"compiling {file.name}, once for this machine..."):
            component = await engine.load(file)
        async with AsyncExitStack() as stack:
            actor = Actor(
                id,
                component,
                imports=await _imports(stack, id, granted, peer),
                config=config,
                environment=environment,
                arguments=granted.arguments,
                grants=grants,
                limits=limits,
                on_line=on_line,
                stdio=stdio,
            )
            try:
                yield actor
            finally:
                await actor.drain()
    finally:
        engine.close()


@contextmanager
def _waiting(what: str) -> Iterator[None]:
    """Say on stderr what is waited for, when it takes long."""
    import asyncio

    timer = asyncio.get_running_loop().call_later(PATIENCE, lambda: click.echo(what, err=True))
    try:
        yield
    finally:
        timer.cancel()


def _id_of(file: Path) -> EntityId:
    from lattice.names import entity_id

    return entity_id(re.sub(r"[^A-Za-z0-9_-]+", "-", file.stem)[:128].strip("-") or "component")


async def _imports(stack: AsyncExitStack, id: EntityId, granted: Granted, peer: Handler | None) -> Handler:
    """What answers the imports that the host does not serve: what is granted, `peer`, else an error that says so."""
    from lattice import NotLinked

    served: dict[str, Handler] = {}
    if granted.kv:
        handler = await stack.enter_async_context(_keyvalue(id))
        served |= {f"wasi:keyvalue/{interface}": handler for interface in KEYVALUE}

    async def imports(invocation: Invocation) -> Value:
        handler = served.get(invocation.function.interface, peer)
        if handler is None:
            raise NotLinked(f'"{id}" runs on its own: nothing answers {invocation.function}')
        return await handler(invocation)

    if not granted.http:
        return imports
    from host.egress import Egress

    egress = Egress()
    stack.push_async_callback(egress.close)
    return egress.around(imports, lambda: granted.http)


@asynccontextmanager
async def _keyvalue(id: EntityId) -> AsyncIterator[Handler]:
    from actors.guest import nothing_linked
    from lattice import EntityId
    from providers.keyvalue.memory import MemoryKeyValue
    from providers.link import link_between
    from providers.runtime import Runtime

    store = EntityId("keyvalue")
    runtime = Runtime(MemoryKeyValue(), store, nothing_linked)
    await runtime.start()
    try:
        await runtime.put_link(link_between(id, store, f"wasi:keyvalue/{','.join(KEYVALUE)}"))
        yield runtime.handle
    finally:
        await runtime.stop(grace=1)


def exports_or_fail(actor: Actor, file: Path, wanted: str, *, what: str, otherwise: Mapping[str, str]) -> None:
    """Raises Failure unless the component exports the interface `wanted`; `otherwise` is what to do with others."""
    keys = [interface.key for interface in actor.component.exports]
    if wanted in keys:
        return
    hint = next((fix for key, fix in otherwise.items() if key in keys), f"trellis inspect {file}  shows what it has")
    raise failure(
        "TRL-CAL-001",
        f"{file} is not {what}: it does not export {wanted}",
        why=f"it exports {', '.join(i.name or 'functions of its world' for i in actor.component.exports) or 'nothing'}",
        fix=hint,
    )


def guest_failed(error: LatticeError) -> Failure:
    """A call that the guest did not answer, as people read it. What it printed has been shown by then."""
    from lattice import DeadlineExceeded, LimitExceeded

    code = "TRL-CAL-003"
    frames: list[str] = []
    if "output" not in error.details:  # else it has said more itself than its frames would
        frames = [str(frame) for frame in error.details.get("backtrace", ())][:FRAMES_SHOWN]
    fix = ""
    if isinstance(error, DeadlineExceeded):
        code = "TRL-CAL-005"
        fix = "--timeout SECONDS  gives it more"
    elif isinstance(error, LimitExceeded) and error.details.get("limit") == "memory":
        fix = "--memory SIZE  gives it more, such as --memory 1Gi"
    elif error.details.get("cause") == "not-linked":
        fix = "run it in an app with a link to who answers that:  trellis up"
    return failure(
        code,
        error.message,
        why="\n       ".join(["it was here, innermost first:", *frames]) if frames else "",
        fix=fix,
        exit_code=NOT_CONVERGED,
    )
