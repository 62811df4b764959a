"""JetStream's API over a Transport: streams, consumers, and publishing that is acknowledged.

It is JSON over request and reply. nats-py has classes for it, too, but its pull subscription waits for a full batch and
its object store reads from files that block, so what needs more than a bucket speaks the API itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lattice.errors import DeadlineExceeded, LatticeError, ProtocolError, Unreachable
from lattice.transport import Message, Transport
from lattice.values import read_json

SECOND = 1_000_000_000
"""JetStream counts in nanoseconds."""

TOGETHER = 256
"""Messages of one walk through a stream that are on their way at a time."""


class NotFound(Exception):
    """There is no such stream, consumer or message; `number` is JetStream's own for what is missing."""

    def __init__(self, said: str, number: int = 0) -> None:
        super().__init__(said)
        self.number = number


@dataclass(frozen=True, slots=True)
class Delivery:
    """A consumer's message: how often it was delivered (1: for the first time), and how many are left after it."""

    message: Message
    times: int
    sequence: int
    pending: int

    @classmethod
    def of(cls, message: Message) -> Delivery | None:
        """None for what JetStream says of the pull itself."""
        parts = (message.reply or "").split(".")
        if parts[:2] != ["$JS", "ACK"] or len(parts) < 9:
            return None
        # $JS.ACK.[domain.account.]stream.consumer.delivered.sequence.consumer sequence.time.pending[.token]
        counts = parts[4:9] if len(parts) == 9 else parts[6:11]
        return cls(message, times=int(counts[0]), sequence=int(counts[1]), pending=int(counts[4]))


def status(message: Message) -> tuple[int, str] | None:
    """(code, words) of a message in which the server speaks of a request; None for one that somebody published."""
    headers = message.headers or {}
    if message.data or "Status" not in headers:
        return None
    return int(headers["Status"]), headers.get("Description", "")


class JetStream:
    """JetStream in the connection's domain, or in another. `timeout` is in seconds, for each request."""

    def __init__(self, transport: Transport, domain: str | None = None, *, timeout: float = 5.0) -> None:
        self.transport = transport
        self.timeout = timeout
        domain = domain or transport.domain
        self._api = f"$JS.{domain}.API" if domain else "$JS.API"

    async def ask(self, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer to `verb` (`STREAM.INFO.orders`). Raises NotFound, or LatticeError with the server's words."""
        return _read(await self._request(verb, body), verb)

    async def _request(self, verb: str, body: Mapping[str, Any] | None) -> Message:
        """A time-out here is the server's failure, not the end of a caller's time."""
        data = b"" if body is None else json.dumps(body).encode()
        try:
            return await self.transport.request(f"{self._api}.{verb}", data, timeout=self.timeout)
        except (Unreachable, DeadlineExceeded) as error:
            raise Unreachable(f"JetStream does not answer: {error.message}") from error

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> int:
        """The message's sequence, once a stream has it. Raises LatticeError when none takes it."""
        try:
            answer = await self.transport.request(subject, data, timeout=self.timeout, headers=headers)
        except DeadlineExceeded as error:
            raise Unreachable(f"no stream took {subject} within {self.timeout:g} s") from error
        except Unreachable as error:
            raise Unreachable(f"no stream takes {subject}: {error.message}") from error
        sequence: int = _read(answer, subject)["seq"]
        return sequence

    async def direct(self, stream: str, body: Mapping[str, Any]) -> Message:
        """One message, as it was published, with its `Nats-Sequence`. Raises NotFound."""
        message = await self._request(f"DIRECT.GET.{stream}", body)
        if (said := status(message)) is not None:
            raise NotFound(said[1])
        return message

    async def pull(self, stream: str, consumer: str, inbox: str, request: Mapping[str, Any]) -> None:
        """Have messages (and what there is to say about the request) sent to `inbox`."""
        data = json.dumps(request).encode()
        await self.transport.publish(f"{self._api}.CONSUMER.MSG.NEXT.{stream}.{consumer}", data, reply=inbox)

    async def walk(self, stream: str, subject: str, **consumer: Any) -> AsyncGenerator[Delivery, None]:
        """Every message of `subject` that is in the stream by now, by a consumer that nobody else sees.

        Holds at most TOGETHER of them. `consumer` is more of its configuration. Raises NotFound when there is no such
        stream, Unreachable when JetStream falls silent.
        """
        config = {
            "filter_subject": subject,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 60 * SECOND,
            **consumer,
        }
        made = await self.ask(f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
        arrived: asyncio.Queue[Message] = asyncio.Queue()
        inbox = self.transport.inbox()
        subscription = await self.transport.subscribe(inbox, arrived.put_nowait)
        left, asked = made["num_pending"], 0
        try:
            while left:
                if asked == 0:
                    asked = min(left, TOGETHER)
                    expires = {"batch": asked, "expires": int(self.timeout * SECOND)}
                    await self.pull(stream, made["name"], inbox, expires)
                try:
                    async with asyncio.timeout(self.timeout):
                        delivery = Delivery.of(await arrived.get())
                except TimeoutError:
                    delivery = None
                if delivery is None:
                    raise Unreachable(f"JetStream stopped sending {subject} of stream {stream}")
                left, asked = delivery.pending, asked - 1
                yield delivery
        finally:
            await subscription.unsubscribe()
            with suppress(LatticeError):  # it goes by itself when nobody has asked for a while
                await self.transport.publish(f"{self._api}.CONSUMER.DELETE.{stream}.{made['name']}", b"")


def _read(answer: Message, what: str) -> dict[str, Any]:
    try:
        read = read_json(answer.data)
        error = read.get("error")
    except (ValueError, AttributeError):
        raise ProtocolError(f"{what}: the answer is not JetStream's") from None
    if error is None:
        found: dict[str, Any] = read
        return found
    said = str(error.get("description", "an error without a description"))
    if error.get("code") == 404:
        raise NotFound(said, error.get("err_code", 0))
    raise LatticeError(f"JetStream refuses {what}: {said}", number=error.get("err_code"))
