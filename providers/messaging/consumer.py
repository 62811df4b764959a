"""Messages of JetStream consumers: acknowledged once the actor has handled them, and delivered again until it has.

What the actor makes of a message decides what becomes of it:

| the call                                    | the message                                                          |
|---------------------------------------------|----------------------------------------------------------------------|
| returns                                     | is acknowledged                                                      |
| fails (its answer is an error, a trap, ...) | comes again after a pause, `max_deliver` times; then it is given up  |
| finds nobody (away, or too busy)            | is kept in hand and tried until somebody is there: no fault of its own |

One that is given up goes to the `dead_letter` subject, if there is one, with headers that say whence and why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lattice import BadInput, Busy, Finding, Function, LatticeError, NotLinked, Unreachable, WitError, read_json
from lattice.jetstream import SECOND, Delivery, JetStream, NotFound, status
from lattice.tracing import Observer, trace_id
from lattice.transport import Message, Subscription
from providers.arrival import Arrival, context_of
from providers.finishing import finishing
from providers.link import Link
from providers.messaging.subjects import internal
from providers.provider import Spawn
from providers.runtime import sentence

log = structlog.get_logger("providers")

HANDLE_MESSAGE = Function("wasmcloud:messaging/handler", "handle-message")

HEARTBEAT = 5.0
"""Seconds between the server's signs of life while a pull waits; after two without one, it is made anew."""
WAITING = 60.0
"""Seconds after which a pull that got nothing is renewed."""
LONGEST_PAUSE = 60.0
"""Seconds: what a message that fails again and again, or a server that is away, is waited for at most."""


class ConsumerConfig(BaseModel):
    """One consumer of a link. What is not wasmCloud's describes the consumer that is made when there is none yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str = Field(pattern=r"^[^\s.*>/\\]+$")
    consumer: str = Field(pattern=r"^[^\s.*>/\\]+$")
    max_messages: int = Field(64, ge=1, le=65536)
    """Messages that the actor has in hand at a time."""
    max_bytes: int | None = Field(None, ge=1)
    """Bytes of the messages that are pulled together."""
    subject: str | None = None
    """The part of the stream that a new consumer is for; wildcards are allowed."""
    ack_wait_ms: int = Field(30_000, ge=100)
    """After how long a host's silence the server gives its messages to another one."""
    max_deliver: int = Field(10, ge=1)
    """How often a message is handed to the actor before it is given up."""
    retry_ms: int = Field(1000, ge=1)
    """The pause before a failed message comes again; doubled each time, a minute at most."""
    dead_letter: str | None = None
    """The subject that messages which are given up go to. A stream has to take it."""


def _listed(text: Any) -> Any:
    """wasmCloud's JSON array. Raises ValueError when it is none."""
    if not isinstance(text, str):
        return text
    try:
        listed = read_json(text or "[]")
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(listed, list):
        raise ValueError('not a JSON array, such as [{"stream": "ORDERS", "consumer": "billing"}]')
    return tuple(listed)


Consumers = Annotated[tuple[ConsumerConfig, ...], BeforeValidator(_listed)]


class Puller:
    """One consumer's messages for the actor of one link. Unless `private`, it is on the lattice's own connection."""

    def __init__(
        self,
        link: Link[Any],
        jetstream: JetStream,
        config: ConsumerConfig,
        private: bool,
        spawn: Spawn,
        observe: Observer,
    ) -> None:
        self._link = link
        self._jetstream = jetstream
        self._config = config
        self._private = private
        self._spawn = spawn
        self._observe = observe
        self._inbox = jetstream.transport.inbox()
        self._ack_wait = config.ack_wait_ms / 1000
        self._subscription: Subscription | None = None
        self._pulling: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._wanted = 0
        """Messages that the pull under way has still to bring; `_heard` and `_said` are of it, too."""
        self._heard = 0.0
        self._said = ""
        self._changed = asyncio.Event()
        self.trouble: str | None = None
        """Why no messages come at present."""

    # -- its life

    async def start(self) -> None:
        """Raises BadInput when a stream is not there or the consumer of no use; LatticeError without JetStream."""
        await self._prepare()
        self._subscription = await self._jetstream.transport.subscribe(self._inbox, self._arrived)
        self._pulling = self._spawn(self._pull(), name=f"consumer {self._config.consumer}")

    async def _prepare(self) -> None:
        """Find the consumer, or make it."""
        config = self._config
        stream, name = config.stream, config.consumer
        if config.dead_letter is not None:
            if not self._private and internal(config.dead_letter):
                raise self._refusal(f"its dead_letter {config.dead_letter} is a subject of the lattice")
            found = await self._jetstream.ask("STREAM.NAMES", {"subject": config.dead_letter})
            if not found.get("streams"):
                raise self._refusal(f"no stream takes its dead_letter subject {config.dead_letter}")
        try:
            found = await self._jetstream.ask(f"STREAM.INFO.{stream}")
        except NotFound:
            raise self._refusal("there is no such stream") from None
        if not self._private and any(internal(subject) for subject in found["config"].get("subjects") or ()):
            raise self._refusal("what is in that stream is the lattice's own")
        try:
            info = await self._jetstream.ask(f"CONSUMER.INFO.{stream}.{name}")
        except NotFound:
            wanted: dict[str, Any] = {
                "durable_name": name,
                "ack_policy": "explicit",
                "ack_wait": int(self._ack_wait * SECOND),
                "max_deliver": -1,  # counted here: a host that dies over a last delivery must not bury the message
                "max_ack_pending": 65536,
            }
            if config.subject is not None:
                wanted["filter_subject"] = config.subject
            body = {"stream_name": stream, "config": wanted}
            info = await self._jetstream.ask(f"CONSUMER.CREATE.{stream}.{name}", body)
        there = info["config"]
        if there.get("deliver_subject") or there.get("ack_policy") != "explicit":
            raise self._refusal("it has to be a pull consumer with explicit acknowledgement")
        self._ack_wait = there.get("ack_wait", 30 * SECOND) / SECOND

    def _refusal(self, why: str) -> BadInput:
        return BadInput(
            Finding(
                "TRL-PRV-012",
                f"link {self._link.record}: consumer {self._config.consumer} of stream {self._config.stream}: {why}",
                fix='create the stream (nats stream add), or correct "consumers"',
            )
        )

    async def leave(self) -> None:
        """Take no more messages."""
        if self._pulling is not None:
            self._pulling.cancel()
        if self._subscription is not None:
            await self._subscription.drain()

    async def stop(self) -> None:
        """Leave, and finish the messages in hand. When this is cancelled, they go back to the stream."""
        async with finishing(self._running):
            await self.leave()

    # -- pulling

    async def _pull(self) -> None:
        """Ask for as many messages as there is room for, again and again."""
        pause = 0.1
        while True:
            try:
                await self._once()
                pause = 0.1
                self.trouble = None
            except (LatticeError, BadInput, NotFound) as error:
                said = sentence(error)
                if self.trouble is None:
                    log.warning("consumer.silent", actor=self._link.peer, consumer=self._config.consumer, error=said)
                self.trouble = said
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _once(self) -> None:
        """One pull, from its request to its end."""
        while (room := self._config.max_messages - len(self._running)) <= 0:
            await self._change(None)
        if self.trouble is not None:
            await self._prepare()
        request: dict[str, Any] = {
            "batch": room,
            "expires": int(WAITING * SECOND),
            "idle_heartbeat": int(HEARTBEAT * SECOND),
        }
        if self._config.max_bytes is not None:
            request["max_bytes"] = self._config.max_bytes
        self._wanted, self._heard, self._said = room, time.monotonic(), ""
        await self._jetstream.pull(self._config.stream, self._config.consumer, self._inbox, request)
        while self._wanted > 0:
            await self._change(self._heard + 2 * HEARTBEAT - time.monotonic())
            if time.monotonic() - self._heard >= 2 * HEARTBEAT:
                raise Unreachable("JetStream is silent")
        if self._said:
            raise Unreachable(f"JetStream ended the pull: {self._said}")

    async def _change(self, seconds: float | None) -> None:
        """Wait until something happened, or `seconds` are over."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _arrived(self, message: Message) -> None:
        self._heard = time.monotonic()
        self._changed.set()
        said = status(message)
        if said is None:
            delivery = Delivery.of(message)
            if delivery is not None:
                self._wanted -= 1
                self.trouble = None
                task = asyncio.create_task(self._handle(delivery), name=f"message for {self._link.peer}")
                self._running.add(task)
                task.add_done_callback(self._done)
            return
        code, words = said
        if code == 100:  # a heartbeat
            return
        self._wanted = 0
        if code not in (404, 408) and "Exceeded MaxBytes" not in words and "Batch Completed" not in words:
            self._said = words or f"status {code}"

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._changed.set()

    # -- one message

    async def _handle(self, delivery: Delivery) -> None:
        message = delivery.message
        if not self._private and internal(message.subject):
            await self._say(message, b"+TERM")
            return
        arrival = Arrival("message", self._link, HANDLE_MESSAGE, context_of(message))
        about = {"actor": self._link.peer, "subject": message.subject, "sequence": delivery.sequence}
        about["trace"] = trace_id(arrival.context)
        keeping = asyncio.create_task(self._keep(message), name="message in progress")
        try:
            reason = await self._called(message, arrival.context)
        except asyncio.CancelledError:
            await self._say(message, b"-NAK")
            raise
        finally:
            keeping.cancel()
        outcome = "ok" if reason is None else LatticeError.code
        self._observe(arrival.ended(outcome, reason or "", subject=message.subject), (), None)
        if reason is None:
            await self._say(message, b"+ACK")
        elif delivery.times < self._config.max_deliver:
            pause = min(self._config.retry_ms / 1000 * 2 ** (delivery.times - 1), LONGEST_PAUSE)
            log.warning("message.failed", times=delivery.times, again_in=pause, error=reason, **about)
            await self._say(message, b'-NAK {"delay": %d}' % int(pause * SECOND))
        else:
            await self._give_up(delivery, reason, about)

    async def _called(self, message: Message, trace: Mapping[str, str]) -> str | None:
        """Why the actor failed at the message; None when it did not."""
        value = {"subject": message.subject, "body": message.data, "reply-to": None}
        pause = 0.1
        while True:
            try:
                await self._link.call(HANDLE_MESSAGE, value, trace=trace)
                return None
            except WitError as error:
                return str(error.payload)
            except (Unreachable, Busy, NotLinked):
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
            except LatticeError as error:
                return error.message

    async def _keep(self, message: Message) -> None:
        """Tell the server that the message is in good hands, so that it gives it to nobody else."""
        while True:
            await asyncio.sleep(self._ack_wait / 2)
            await self._say(message, b"+WPI")

    async def _give_up(self, delivery: Delivery, reason: str, about: Mapping[str, Any]) -> None:
        message, to = delivery.message, self._config.dead_letter
        if to is not None:
            headers = {
                **(message.headers or {}),
                "Trellis-Subject": message.subject,
                "Trellis-Stream": self._config.stream,
                "Trellis-Sequence": str(delivery.sequence),
                "Trellis-Reason": " ".join(reason.split())[:1000],
                # two hosts that give the same one up, or one that does it twice, leave one letter
                "Nats-Msg-Id": f"{self._config.stream}.{self._config.consumer}.{delivery.sequence}",
            }
            try:
                await self._jetstream.publish(to, message.data, headers)
            except LatticeError as error:
                log.error("message.not_buried", error=error.message, **about)
                await self._say(message, b'-NAK {"delay": %d}' % (5 * SECOND))
                return
        log.error("message.given_up", times=delivery.times, error=reason, dead_letter=to, **about)
        await self._say(message, b"+TERM")

    async def _say(self, message: Message, word: bytes) -> None:
        """Answer the server about a message. One that is lost costs another delivery."""
        assert message.reply is not None
        try:
            await self._jetstream.transport.publish(message.reply, word)
        except LatticeError as error:
            log.warning("message.not_answered", subject=message.subject, error=error.message)
