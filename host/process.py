"""A provider in a process of its own: started by handle, talked to over NATS, ended by handle."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

import structlog
from pydantic import ValidationError

from lattice import EntityId, HostId, LatticeError, Trap, read_json, subjects
from lattice.errors import DeadlineExceeded
from lattice.lattice import Lattice
from lattice.nats_transport import NatsTransport
from lattice.transport import Message, Subscription
from providers import LinkRecord
from providers.link import LinkId
from providers.load import executable
from providers.runtime import Health

log = structlog.get_logger("host")

START = 30.0
"""Seconds from the process's start to its `ready`."""

ANSWER = 35.0
"""Seconds for one verb: a little more than a provider's hook may take."""

HEALTH = 6.0
"""Seconds for a health check: a little more than a provider's own answer may take."""

CHECKS = 3
"""Health checks without an answer, one after the other, after which a process counts as hung."""

LAST_LINES = 15
"""Lines of its output that a failure shows."""


class ChildProvider:
    """One provider process. `on_exit` is called when it ends without having been told to."""

    in_hand = None

    def __init__(
        self,
        reference: str,
        id: EntityId,
        host: HostId,
        lattice: Lattice,
        config: dict[str, str],
        links: Sequence[LinkRecord],
        on_exit: Callable[[str], Awaitable[None]],
    ) -> None:
        self._reference = reference
        self._id = id
        self._host = host
        self._lattice = lattice
        self._config = config
        self._links = links
        self._on_exit = on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._lines: list[str] = []
        self._stopping = False
        self._hung = ""
        self._ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def _subject(self, verb: str) -> str:
        return subjects.provider(self._lattice.name, self._id, self._host, verb)

    async def start(self) -> dict[LinkId, str]:
        """Start the process and wait until it is ready: the links that it refuses, and why.

        Raises LatticeError, with its last lines, when it is not ready.
        """
        transport = self._lattice.transport
        if not isinstance(transport, NatsTransport):
            raise LatticeError("a provider in its own process needs a lattice on NATS")
        hearing = await transport.subscribe(self._subject("ready"), self._said_ready)
        try:
            await self._launch(transport)
            return await self._until_ready()
        except BaseException:
            await self.stop(0.5, ask=False)
            raise
        finally:
            await _quiet(hearing)

    async def _launch(self, transport: NatsTransport) -> None:
        await transport.flush()
        process = await asyncio.create_subprocess_exec(
            *(executable(self._reference) or (sys.executable, "-P", "-m", "providers", self._reference)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal is for us to pass on, in order
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._process = process
        self._tasks = [
            asyncio.create_task(self._read_output(process), name=f"output of {self._id}"),
            asyncio.create_task(self._watch(process), name=f"exit of {self._id}"),
        ]
        data = self._lattice.data
        letter: dict[str, Any] = {
            "lattice": self._lattice.name,
            "nats": asdict(transport.options),
            "data": asdict(data.options) if isinstance(data, NatsTransport) and data is not transport else None,
            "host_id": self._host,
            "provider_id": self._id,
            "config": self._config,
            "links": [link.model_dump(mode="json") for link in self._links],
        }
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(letter).encode() + b"\n")
            await process.stdin.drain()
            process.stdin.close()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it ended already: _watch says why

    def _said_ready(self, message: Message) -> None:
        if not self._ready.done():
            try:
                said = read_json(message.data)
            except ValueError:
                said = None
            self._ready.set_result(said if isinstance(said, dict) else {"error": "its ready message is no JSON object"})

    async def _until_ready(self) -> dict[LinkId, str]:
        try:
            async with asyncio.timeout(START):
                said = await self._ready
        except TimeoutError:
            raise LatticeError(f'provider "{self._id}" was not ready within {START:g} s{self._last_lines()}') from None
        if not said.get("ok"):
            raise LatticeError(f'provider "{self._id}" did not start: {said.get("error", "no reason given")}')
        try:
            return {LinkRecord.model_validate(r["link"]).id: str(r["error"]) for r in said.get("refused", ())}
        except (ValidationError, TypeError, KeyError):
            raise LatticeError(
                f'the ready message of provider "{self._id}" does not name the links it refuses'
            ) from None

    async def _read_output(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            text = line.decode(errors="replace").rstrip()
            self._lines.append(text)
            del self._lines[:-LAST_LINES]
            log.info("provider.wrote", provider=self._id, line=text)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        await asyncio.wait([self._tasks[0]], timeout=1.0)
        if self._stopping:
            return
        why = f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        if not self._ready.done():
            self._ready.set_result({"ok": False, "error": f"the process {why}{self._last_lines()}"})
            return
        log.warning("provider.exited", provider=self._id, why=why)
        await self._on_exit((self._hung or why) + self._last_lines())

    def _last_lines(self) -> str:
        return "\n" + "\n".join(self._lines) if self._lines else ""

    async def _ask(self, verb: str, body: dict[str, Any], timeout: float = ANSWER) -> dict[str, Any]:
        answer = await self._lattice.transport.request(self._subject(verb), json.dumps(body).encode(), timeout=timeout)
        try:
            said = read_json(answer.data)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise Trap(f'provider "{self._id}" answered {verb} with something that is not a JSON object')
        return said

    async def put_link(self, record: LinkRecord) -> None:
        said = await self._ask("link.put", record.model_dump(mode="json"))
        if not said.get("ok"):
            raise LatticeError(str(said.get("error", "the link was refused")))

    async def delete_link(self, record: LinkRecord) -> None:
        await self._ask("link.del", record.model_dump(mode="json"))

    async def set_config(self, config: dict[str, str]) -> None:
        self._config = config
        said = await self._ask("config", config)
        if not said.get("ok"):
            raise LatticeError(str(said.get("error", "the configuration was refused")))

    async def health(self) -> Health:
        """What it says of itself. A process that hangs is killed: then `on_exit` is called as when it had ended."""
        try:
            for _ in range(CHECKS):
                try:
                    said = await self._ask("health", {}, timeout=HEALTH)
                except DeadlineExceeded:
                    await self._lattice.transport.flush()  # the broker answers, so it is the process that does not
                else:
                    return Health(
                        bool(said.get("healthy", said.get("ok"))), str(said.get("message", said.get("error", "")))
                    )
        except LatticeError as error:
            return Health(False, error.message)
        self._hung = f"it hung: {CHECKS} health checks in a row had no answer"
        if self._process is not None:
            _signal(self._process, signal.SIGKILL)
        return Health(False, self._hung)

    async def stop(self, grace: float, *, ask: bool = True) -> None:
        """Ask it to stop; SIGTERM and then SIGKILL to the process we started when it does not.

        Without `ask`, because another process hears what this one is asked: SIGTERM at once.
        """
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            if ask:
                with contextlib.suppress(LatticeError):
                    await self._ask("stop", {"grace": grace}, timeout=max(0.5, grace))
            if not ask or not await _ended(process, 1.0):
                _signal(process, signal.SIGTERM)
                if not await _ended(process, max(0.5, grace)):
                    _signal(process, signal.SIGKILL)
                    await process.wait()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except ProcessLookupError:
        pass


async def _ended(process: asyncio.subprocess.Process, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        return False
    return True


async def _quiet(subscription: Subscription) -> None:
    try:
        await subscription.unsubscribe()
    except LatticeError:
        pass
