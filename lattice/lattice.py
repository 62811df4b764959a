"""One member of one lattice: invoke and serve entities, tell and hear events, talk to the control interface."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError

from lattice import events, frames, subjects
from lattice.control import Reply
from lattice.errors import Busy, DeadlineExceeded, LatticeError, ProtocolError, Unreachable, WitError
from lattice.events import Event
from lattice.flow import Flow
from lattice.invocation import Handler, Invocation
from lattice.names import EntityId, HostId
from lattice.recovery import LOST, Recovery
from lattice.streams import ByteStream, StreamClosed
from lattice.transport import Bucket, Message, Subscription, Transport
from lattice.values import Value, pack, stream_mark

log = structlog.get_logger("lattice")

ENVELOPE = 512
"""Bytes of a message that are not frame: subject, reply subject, protocol line."""

INLINE_BODY = 64 * 1024
"""Bytes: a finished body up to this size travels inside its frame."""

DEFAULT_TIMEOUT = 30.0
"""Seconds for an invocation that came without a deadline."""

CONTROL_TIMEOUT = 2.0
"""Seconds for one control request, as wasmCloud v1 clients wait."""


class Lattice:
    """Made by `join`, or from any Transport. Use as `async with`, or call `start` and `close`."""

    def __init__(self, name: str, transport: Transport, data: Transport | None = None) -> None:
        self.name = name
        self.transport = transport
        self.data = data or transport
        """What calls and streams travel over; everything else travels over `transport`."""
        self.flow = Flow(self.data)
        self.recovery = Recovery(name, self.data)
        self._calls = secrets.token_urlsafe(9) + "."
        self._numbers = itertools.count(1)
        self._cancels: set[asyncio.Task[None]] = set()

    async def start(self) -> Lattice:
        await self.flow.start()
        return self

    async def close(self) -> None:
        """Leave: streams end, then the connections are drained and closed."""
        self.recovery.stop()
        await self.flow.stop()
        if self._cancels:
            await asyncio.wait(self._cancels, timeout=1.0)
        await self.data.close()
        await self.transport.close()

    async def __aenter__(self) -> Lattice:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- invocations

    async def invoke(self, invocation: Invocation) -> Value:
        """Call `invocation.target` wherever it runs. A Handler.

        Busy targets are tried again, with jitter, until the deadline. Whoever stops waiting, at the deadline or because
        the task is cancelled, stops the call on the other side, too. Raises WitError (an answer), Unreachable at
        once when nothing serves the target, DeadlineExceeded, and whatever LatticeError the target raised.
        """
        return await self._call(subjects.rpc(self.name, invocation.target), invocation)

    async def invoke_at(self, host: HostId, invocation: Invocation) -> Value:
        """Call the target on one host. Busy is raised, not waited out: another host may have room."""
        return await self._call(subjects.rpc_at(self.name, invocation.target, host), invocation, patient=False)

    async def _call(self, subject: str, invocation: Invocation, *, patient: bool = True) -> Value:
        if math.isinf(invocation.deadline):
            invocation = invocation.within(DEFAULT_TIMEOUT)
        pause = 0.005
        while True:
            if not self.recovery.settled.is_set():
                await self._settled(invocation)
            left = invocation.remaining()
            if left <= 0:
                raise DeadlineExceeded(f'no time left to call "{invocation.target}"')
            id = f"{self._calls}{next(self._numbers)}"
            frame = self._fit(frames.encode_call(invocation, self._stand_in, id))
            try:
                answer = await self.data.request(subject, frame, timeout=left)
            except Unreachable as error:
                raise _named(error, invocation) from error
            except DeadlineExceeded as error:
                self._abandon(invocation.target, id)
                raise _named(error, invocation) from error
            except asyncio.CancelledError:
                self._abandon(invocation.target, id)
                raise
            try:
                return frames.decode_answer(await self._open(answer.data))
            except Busy:
                pause = min(pause * 2, 0.25)
                wait = pause * (0.5 + random.random())
                if not patient or wait >= invocation.remaining():
                    raise
                await asyncio.sleep(wait)

    async def _settled(self, invocation: Invocation) -> None:
        """Wait until the broker is there again, and can be for the target, too, or until the call's time is over."""
        try:
            async with asyncio.timeout(max(0.0, invocation.remaining())):
                await self.recovery.settled.wait()
        except TimeoutError:
            raise DeadlineExceeded(f'the broker was away while "{invocation.target}" was to be called') from None

    def _abandon(self, target: EntityId, id: str) -> None:
        """Let whoever has that call in hand stop; beside the caller, who is leaving."""

        async def tell() -> None:
            try:
                await self.data.publish(subjects.cancel(self.name, target), id.encode())
            except LatticeError:
                pass  # the broker is away: the call's own deadline ends it

        task = asyncio.create_task(tell())
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    def _stand_in(self, stream: ByteStream) -> Any:
        if stream.complete and stream.trailers is None and stream.buffered <= INLINE_BODY:
            whole = stream.read_now(INLINE_BODY)
            while not stream.ended:
                whole += stream.read_now(INLINE_BODY)
            return whole
        return stream_mark(self.flow.offer(stream))

    def _fit(self, frame: bytes) -> bytes:
        """`frame`, or a short one that tells where to pull it from."""
        if len(frame) <= self.data.max_payload - ENVELOPE:
            return frame
        return pack([frames.LARGE, self.flow.offer(ByteStream.of(frame)), len(frame)])

    async def _open(self, data: bytes) -> list[Any]:
        frame = frames.open_frame(data, self.flow.pull)
        match frame:
            case [frames.LARGE, str(subject), int(size)]:
                try:
                    whole = await self.flow.pull(subject).read_all(size)
                except StreamClosed as broken:
                    raise Unreachable(f"the rest of a large message did not come: {broken}") from broken
                except ValueError as error:
                    raise ProtocolError(f"a large message is not what it said: {error}") from error
                return frames.open_frame(whole, self.flow.pull)
        return frame

    async def serve(self, entity: EntityId, handler: Handler, *, host: HostId | None = None) -> Serving:
        """Answer calls of `entity` with `handler`, sharing them with every other host that serves it.

        With `host`, also answer calls that name this host.
        """
        serving = Serving(self, entity, handler)
        shared = subjects.rpc(self.name, entity)
        serving.subscriptions.append(await self.data.subscribe(shared, serving.arrived, queue=shared))
        for about, heard in ((subjects.cancel, serving.cancelled), (subjects.in_hand, serving.asked)):
            serving.beside.append(await self.data.subscribe(about(self.name, entity), heard))
        if host is not None:
            mine = subjects.rpc_at(self.name, entity, host)
            # in a group, too: while a provider is replaced, two of it serve here for a moment
            serving.subscriptions.append(await self.data.subscribe(mine, serving.arrived, queue=mine))
        if self.data is not self.transport:
            await self.data.flush()  # whoever is told of it over the other connection may call at once
        return serving

    # -- events

    async def emit(self, event: Event, source: HostId) -> None:
        """Tell the lattice that `event` happened at host `source`."""
        await self.transport.publish(subjects.event(self.name, event.name), events.encode(event, source))

    async def on_events(self, callback: Callable[[HostId, Event], Awaitable[None] | None]) -> Subscription:
        """Call back for each event that we know the type of; a broken one is logged and left out."""

        async def arrived(message: Message) -> None:
            try:
                decoded = events.decode(message.data)
            except ValueError as error:
                log.warning("event.undecodable", subject=message.subject, error=str(error))
                return
            if decoded is not None:
                outcome = callback(*decoded)
                if outcome is not None:
                    await outcome

        return await self.transport.subscribe(subjects.event(self.name, ">"), arrived)

    # -- control interface and state

    async def control(
        self, *tokens: str, body: BaseModel | dict[str, Any] | None = None, timeout: float = CONTROL_TIMEOUT
    ) -> Reply:
        """One control request, e.g. `control("host", "get", host_id)`. Raises Unreachable, DeadlineExceeded."""
        answer = await self.transport.request(subjects.control(self.name, *tokens), _json(body), timeout=timeout)
        return _reply(answer)

    async def control_all(
        self,
        *tokens: str,
        body: BaseModel | dict[str, Any] | None = None,
        seconds: float = CONTROL_TIMEOUT,
        most: int | None = None,
    ) -> list[Reply]:
        """Every host's answer to a broadcast that comes within `seconds`, or the first `most`, if it can be read."""
        answers = await self.transport.gather(
            subjects.control(self.name, *tokens), _json(body), seconds=seconds, most=most
        )
        return [reply for answer in answers if (reply := _reply_or_none(answer)) is not None]

    async def lattice_data(self) -> Bucket:
        """Links and images of every component and provider (`COMPONENT_{id}`)."""
        return await self.transport.bucket(subjects.lattice_data(self.name))

    async def config_data(self) -> Bucket:
        """Named configurations: a JSON object of strings each."""
        return await self.transport.bucket(subjects.config_data(self.name))


class Serving:
    """Calls of one entity, being answered."""

    def __init__(self, lattice: Lattice, entity: EntityId, handler: Handler) -> None:
        self.entity = entity
        self.handler = handler
        self.subscriptions: list[Subscription] = []
        """To calls. `drain` ends them first."""
        self.beside: list[Subscription] = []
        """To what is said of calls that may be in hand here."""
        self._lattice = lattice
        self._running: dict[asyncio.Task[None], str | None] = {}
        """Calls in hand, and where their answers go."""
        self._by_id: dict[str, asyncio.Task[None]] = {}
        self._over = False

    def arrived(self, message: Message) -> None:
        task = asyncio.create_task(self._answer(message))
        self._running[task] = message.reply
        task.add_done_callback(self._running.pop)

    def cancelled(self, message: Message) -> None:
        """Stop that call, if it is in hand here: its caller has left, so it gets no answer."""
        task = self._by_id.get(message.data.decode(errors="replace"))
        if task is not None:
            task.cancel()

    async def asked(self, message: Message) -> None:
        """Say which of these calls, told by where their answers go, are in hand here."""
        if message.reply is not None:
            held = set(self._running.values())
            mine = [reply for reply in message.data.decode(errors="replace").split("\n") if reply in held]
            await self._lattice.data.publish(message.reply, "\n".join(mine).encode())

    async def _answer(self, message: Message) -> None:
        lattice = self._lattice
        try:
            frame = await lattice._open(message.data)
            call, id = frames.decode_call(frame, self.entity)
            task = asyncio.current_task()
            assert task is not None
            self._by_id[id] = task
            try:
                value = await self.handler(call)
            finally:
                self._by_id.pop(id, None)
            reply = frames.encode_ok(value, lattice._stand_in)
        except (WitError, LatticeError) as error:
            reply = frames.encode_error(error)
        except asyncio.CancelledError:
            if not self._over:
                raise  # by its caller, who has left
            reply = frames.encode_error(Unreachable(f'"{self.entity}" was stopped before it was done with the call'))
        except Exception as error:
            log.exception("invocation.failed", entity=self.entity)
            reply = frames.encode_error(LatticeError(f"{type(error).__name__}: {error}"))
        if message.reply is not None:
            if not lattice.recovery.settled.is_set():
                await lattice.recovery.settled.wait()
            try:
                await lattice.data.publish(message.reply, lattice._fit(reply))
            except LatticeError as error:
                log.warning("answer.unsent", entity=self.entity, error=str(error))

    async def leave(self) -> None:
        """Take no new calls."""
        for subscription in self.subscriptions:
            await subscription.drain()

    async def drain(self, seconds: float = 10.0) -> int:
        """Take no new calls, give those in hand `seconds` to finish; how many had to be cancelled.

        Their callers are told at once. A call that was cancelled may have been carried out in part, so it ends as
        Unreachable, which nobody repeats.
        """
        await self.leave()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=seconds)
            self._over = True
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        else:
            late = set()
        for subscription in self.beside:
            await subscription.unsubscribe()
        return len(late)


def _named(error: Unreachable | DeadlineExceeded, invocation: Invocation) -> LatticeError:
    """The transport's error about a subject, said about the target that was meant."""
    target, function = invocation.target, invocation.function
    if error.details.get("because") == LOST:
        return error
    if isinstance(error, Unreachable):
        return Unreachable(f'nothing on the lattice serves "{target}" ({function.interface})', target=target)
    return DeadlineExceeded(f'"{target}" did not answer {function} in time', target=target)


def _json(body: BaseModel | dict[str, Any] | None) -> bytes:
    if body is None:
        return b""
    if isinstance(body, BaseModel):
        return body.model_dump_json(exclude_none=True).encode()
    return json.dumps(body).encode()


def _reply_or_none(message: Message) -> Reply | None:
    """One host that speaks otherwise does not hide the others."""
    try:
        return _reply(message)
    except ProtocolError as error:
        log.warning("control.answer_unreadable", reason=error.message)
        return None


def _reply(message: Message) -> Reply:
    try:
        return Reply.model_validate_json(message.data)
    except ValidationError as error:
        raise ProtocolError(f"not a control reply on {message.subject}: {message.data[:200]!r}") from error
