"""A provider in a process of its own: started by a host, or by hand.

The contract between a host and the process
-------------------------------------------
The host runs `sys.executable -P -m providers REF` (in a session of its own, so that Ctrl-C in a terminal reaches the
host alone) and writes one line of JSON to its standard input, a `Start`:

    {"lattice": "default", "host_id": "N...", "provider_id": "shout",
     "nats": {"url": "nats://127.0.0.1:4222", "user": ..., "password": ..., "token": ..., "nkey_seed": ..., "jwt": ...,
              "creds_file": ..., "ca_file": ..., "cert_file": ..., "key_file": ..., ...},    `url` is enough
     "data": null, or the same for the connection that calls travel over
     "config": {"name": "value"}, "links": [LinkRecord, ...],
     "grace": 10.0, "log_level": "info", "max_concurrent": 256}           these three may be left out

The process connects, loads REF, starts the provider, adds the links, and answers calls of `provider_id`, both shared
with other hosts and for this host. Then it answers requests on `subjects.provider(lattice, provider_id, host_id,
VERB)`, JSON in, JSON out; every answer is `{"ok": true, ...}` or `{"ok": false, "error": "a sentence"}`:

    link.put   a LinkRecord    ok once the provider took it; refused links stay refused, the others live
    link.del   a LinkKey       ok once its last call is done
    config     {name: value}   the whole merged configuration
    health     (nothing)       adds "healthy": bool and "message": str
    stop       {"grace": 5}    answered at once; then the process hears no more verbs, drains and exits with 0

At last it publishes `ready` on the same subjects: `{"ok": true, "refused": [{"link": LinkRecord, "error": "..."}]}`, or
`{"ok": false, "error": "..."}` and exits with 1. Without a NATS connection there is only the exit code and the log.

Standard output and error are the host's log: one JSON object a line, unless standard error is a terminal. SIGTERM and
SIGINT drain for `grace` seconds and exit with 0. The end of standard input means nothing. When the process that started
it is gone, it drains as well, and is gone for certain a few seconds after its grace period.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lattice import BadInput, EntityId, Finding, Handler, HostId, LatticeError, login, subjects
from lattice.errors import failure
from lattice.figures import Part
from lattice.lattice import Lattice
from lattice.links import LinkKey
from lattice.metrics import Metrics
from lattice.names import entity_id
from lattice.nats_transport import DEFAULT_URL, NatsOptions, connect
from lattice.observing import Observing
from lattice.otel import exported
from lattice.presence import routes
from lattice.transport import Message, Subscription
from providers.description import describe, publish
from providers.link import LinkRecord, link_between
from providers.load import default_id, resolve
from providers.provider import Provider
from providers.runtime import Runtime

log = structlog.get_logger("providers")

VERBS = ("link.put", "link.del", "config", "health", "stop")
WATCH_SECONDS = 0.5
"""How often a process that a host started looks whether the host still lives."""
LAST_SECONDS = 5.0
"""After the grace period: how long an orphan may still take before it ends without ceremony."""


class Start(BaseModel):
    """What the host writes to the process."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    lattice: str = "default"
    host_id: HostId
    provider_id: EntityId
    nats: NatsOptions = NatsOptions()
    data: NatsOptions | None = None
    config: dict[str, str] = Field({}, repr=False)
    links: tuple[LinkRecord, ...] = ()
    grace: float = 10.0
    log_level: str = "info"
    max_concurrent: int | None = None


Configuration = TypeAdapter(dict[str, str])


class Process:
    """One provider process between its connection and its end."""

    def __init__(self, start: Start, make: Callable[[], Provider], reference: str = "") -> None:
        self.start = start
        self.make = make
        self.reference = reference
        """What `make` makes it from."""
        self.stopping = asyncio.Event()
        self.grace = start.grace

    def stop(self, grace: float | None = None) -> None:
        """Begin to leave; a second call can only shorten the grace period."""
        if grace is not None:
            self.grace = min(self.grace, grace)
        self.stopping.set()

    async def run(self) -> int:
        """Serve until `stop`; the exit code."""
        start = self.start
        name = f"trellis provider {start.provider_id}"
        try:
            transport = await connect(replace(start.nats, name=name))
            try:
                data = await connect(replace(start.data, name=name)) if start.data else None
            except LatticeError:
                await transport.close()
                raise
        except LatticeError as error:
            log.error("provider.unconnected", provider=start.provider_id, error=error.message)
            return 1
        observing, metrics = Observing(), Metrics()
        observing.observers.append(metrics.observe)
        away = partial(observing.around, kind="away")
        id = f"{start.host_id}.{start.provider_id}"
        who = {"service.name": "trellis-provider", "service.instance.id": id, "trellis.lattice": start.lattice}
        async with (
            Lattice(start.lattice, transport, data) as lattice,
            routes(lattice, away) as routed,
            exported(who, observers=observing.observers),
        ):
            name = f"process of {start.provider_id}"
            await observing.open(lattice, id, name)
            try:
                runtime = Runtime(
                    self.make(),
                    start.provider_id,
                    routed.route,
                    start.config,
                    lattice=lattice,
                    host_id=start.host_id,
                    max_concurrent=start.max_concurrent,
                    observe=observing.tell,
                )
                await runtime.start()
                parts = partial(_parts, runtime)
                await metrics.open(lattice, id, name, parts, host=False)
            except Exception as error:
                if not isinstance(error, (BadInput, LatticeError)):
                    log.exception("provider.broken", provider=start.provider_id)
                log.error("provider.start_failed", provider=start.provider_id, error=failure(error))
                await self._ready(lattice, {"ok": False, "error": failure(error)})
                return 1
            await self._serve(lattice, runtime, observing.around(runtime.handle, "provider"))
        return 0

    async def _serve(self, lattice: Lattice, runtime: Runtime, handle: Handler) -> None:
        start = self.start
        results = await asyncio.gather(*(runtime.put_link(r) for r in start.links), return_exceptions=True)
        refused = [
            {"link": record.model_dump(mode="json"), "error": failure(error)}
            for record, error in zip(start.links, results, strict=True)
            if isinstance(error, BaseException)
        ]
        serving = await lattice.serve(start.provider_id, handle, host=start.host_id)
        verbs = Verbs(self, lattice, runtime)
        described = await publish(lattice, start.provider_id, describe(type(runtime.provider), self.reference))
        await verbs.listen()
        await self._ready(lattice, {"ok": True, "refused": refused})
        await self.stopping.wait()
        await verbs.deafen()
        await described.unsubscribe()
        until = time.monotonic() + self.grace
        log.info("provider.stopping", provider=start.provider_id, grace=self.grace)
        await serving.drain(self.grace)
        await runtime.stop(max(0.5, until - time.monotonic()))
        verbs.close()

    async def _ready(self, lattice: Lattice, body: dict[str, Any]) -> None:
        subject = subjects.provider(lattice.name, self.start.provider_id, self.start.host_id, "ready")
        await lattice.transport.flush()  # what we listen to is known to the broker before anybody hears of it
        await lattice.transport.publish(subject, json.dumps(body).encode())
        await lattice.transport.flush()


class Verbs:
    """What the host asks of the process."""

    def __init__(self, process: Process, lattice: Lattice, runtime: Runtime) -> None:
        self.process = process
        self.lattice = lattice
        self.runtime = runtime
        self._subscriptions: list[Subscription] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        for verb in VERBS:
            start = self.process.start
            subject = subjects.provider(self.lattice.name, start.provider_id, start.host_id, verb)
            work = getattr(self, "_" + verb.replace(".", "_"))
            self._subscriptions.append(await self.lattice.transport.subscribe(subject, self._arrived(work)))

    async def deafen(self) -> None:
        """Take no more requests: they are for the process that takes our place."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _arrived(self, work: Callable[[bytes], Coroutine[Any, Any, dict[str, Any]]]) -> Callable[[Message], None]:
        def arrived(message: Message) -> None:
            # beside the reading of messages: one slow link must not hold up the health check
            task = asyncio.create_task(self._answer(work, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return arrived

    async def _answer(self, work: Callable[[bytes], Coroutine[Any, Any, dict[str, Any]]], message: Message) -> None:
        try:
            answer = {"ok": True} | await work(message.data)
        except (BadInput, LatticeError) as error:
            answer = {"ok": False, "error": failure(error)}
        except ValidationError as error:
            answer = {"ok": False, "error": f"not a request for {message.subject}: {error.errors()[0]['msg']}"}
        if message.reply is not None:
            await self.lattice.transport.publish(message.reply, json.dumps(answer).encode())

    async def _link_put(self, data: bytes) -> dict[str, Any]:
        await self.runtime.put_link(LinkRecord.model_validate_json(data))
        return {}

    async def _link_del(self, data: bytes) -> dict[str, Any]:
        await self.runtime.delete_link(LinkKey.model_validate_json(data))
        return {}

    async def _config(self, data: bytes) -> dict[str, Any]:
        await self.runtime.set_config(Configuration.validate_json(data))
        return {}

    async def _health(self, data: bytes) -> dict[str, Any]:
        health = await self.runtime.health()
        return {"healthy": health.healthy, "message": health.message}

    async def _stop(self, data: bytes) -> dict[str, Any]:
        wanted = TypeAdapter(dict[str, float]).validate_json(data) if data else {}
        asyncio.get_running_loop().call_soon(self.process.stop, wanted.get("grace"))
        return {}


# -- the command


def main(argv: Sequence[str] | None = None, provider: Provider | None = None) -> int:
    """`python -m providers REF`, or `serve(provider)` when the provider is given. The exit code."""
    parser = _parser(with_ref=provider is None)
    options = parser.parse_args(argv)
    make = (lambda: resolve(_ref(options.ref))()) if provider is None else (lambda: provider)
    try:
        by_hand = sys.stdin is None or sys.stdin.isatty() or any(vars(options)[flag] for flag in _FLAGS)
        start = _by_hand(options, make) if by_hand else _from_host(sys.stdin.readline())
    except BadInput as error:
        print(error, file=sys.stderr)  # noqa: T201 - nobody else is there to be told
        return 2
    _log_to_stderr(start.log_level)
    if not by_hand:
        _die_with_parent(start.grace + LAST_SECONDS)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_until_signal(start, make, "" if provider else options.ref))


def serve(provider: Provider) -> None:
    """Run `provider` as this process: `if __name__ == "__main__": serve(Shout())`. Does not return."""
    sys.exit(main(None, provider))


def _parts(runtime: Runtime) -> list[Part]:
    return [Part(id=runtime.id, kind="provider", busy=runtime.in_hand)]


async def _until_signal(start: Start, make: Callable[[], Provider], reference: str) -> int:
    process = Process(start, make, reference)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, process.stop)
    return await process.run()


def _ref(text: str) -> str:
    """A module's plain name is taken too."""
    plain = text.partition(":")[0].replace(".", "").replace("_", "").isalnum() and ".py" not in text
    known = text.startswith(("builtin:", "file:", "python:"))
    return f"python:{text}" if plain and not known and "/" not in text else text


def _from_host(line: str) -> Start:
    try:
        return Start.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(
            Finding(
                "TRL-PRV-005",
                f"standard input does not hold the line of JSON that a host writes: {where} {first['msg']}",
                fix="to run it by hand, say where: --lattice default --id my-provider",
            )
        ) from None


_LOGINS = tuple(f"{server}_{one.name}" for server in ("nats", "data_nats") for one in fields(login.Login))
_FLAGS = ("lattice", "nats", "data_nats", "nats_config", "id", "peer", "interface", "link_config", "config", *_LOGINS)
"""Each of them says that nobody but a person starts it."""


def _parser(*, with_ref: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m providers" if with_ref else None,
        description="Run a capability provider. Without options it expects a host's line of JSON on standard input.",
        epilog="Logins to NATS: --nats-user, --nats-creds... and $TRELLIS_NATS_USER..., as for `trellis host start`.",
    )
    if with_ref:
        parser.add_argument("ref", help="FILE.py[:Class], package.module[:Class] or builtin:NAME")
    parser.add_argument("--lattice", help="the lattice to join (default: $TRELLIS_LATTICE, or default)")
    parser.add_argument("--nats", metavar="URL", help=f"the NATS server (default: $TRELLIS_NATS, or {DEFAULT_URL})")
    parser.add_argument(
        "--nats-config", metavar="FILE", help="says both, and the login (default: $TRELLIS_NATS_CONFIG)"
    )
    parser.add_argument("--data-nats", metavar="URL", help="another server for calls (default: $TRELLIS_DATA_NATS)")
    for name in _LOGINS:
        parser.add_argument(f"--{name.replace('_', '-')}", help=argparse.SUPPRESS)
    parser.add_argument("--id", help="the provider's id on the lattice (default: from the name of its class)")
    parser.add_argument("--peer", action="append", metavar="ID", help="link it with this actor (may be repeated)")
    parser.add_argument(
        "--interface", action="append", metavar="NS:PKG/IFACE", help="what the links are about (default: its exports)"
    )
    parser.add_argument("--link-config", action="append", metavar="K=V", help="configuration of the links")
    parser.add_argument("--config", action="append", metavar="K=V", help="configuration of the provider")
    parser.add_argument("--grace", type=float, default=10.0, metavar="SECONDS", help="time to finish calls at the end")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return parser


def _by_hand(options: argparse.Namespace, make: Callable[[], Provider]) -> Start:
    kind = type(make())
    try:
        own = entity_id(options.id or default_id(kind))
    except ValueError as error:
        raise BadInput(Finding("TRL-CLI-001", str(error))) from None
    config = _pairs(options.link_config)
    packages: dict[str, dict[str, None]] = {}
    for interface in options.interface or [e.function.interface for e in kind.exports.values()]:
        package, _, name = interface.partition("/")
        packages.setdefault(package, {})[name] = None
    links = []
    for peer in options.peer or ():
        for package, names in packages.items():
            what = f"{package}/{','.join(names)}"
            incoming = any(e.function.interface.startswith(f"{package}/") for e in kind.exports.values())
            if incoming:
                links.append(link_between(peer, own, what, target_config=config))
            else:
                links.append(link_between(own, peer, what, source_config=config))
    settings = login.settings(vars(options))
    return Start(
        lattice=settings.lattice or "default",
        nats=login.options(settings.nats, ""),
        data=login.data_options(settings, ""),
        host_id=HostId(f"by-hand-{os.getpid()}"),
        provider_id=own,
        config=_pairs(options.config),
        links=tuple(links),
        grace=options.grace,
        log_level=options.log_level,
    )


def _pairs(items: Sequence[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in items or ():
        key, sep, value = item.partition("=")
        if not sep:
            raise BadInput(Finding("TRL-CLI-001", f"{item!r} is not KEY=VALUE"))
        pairs[key] = value
    return pairs


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _log_to_stderr(level: str) -> None:
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(
                [structlog.dev.ConsoleRenderer()]
                if terminal
                else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=max(number, logging.WARNING))


def _die_with_parent(most: float) -> None:
    """Leave when the host is gone: first as SIGTERM asks, then, `most` seconds later, for certain.

    A thread, because a provider whose event loop is stuck must go as well.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(most)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
