"""ByteStreams across the broker: chunks against credit, so that a slow reader slows the writer.

The sender offers a stream under a subject; whoever got the subject pulls it, once. First byte of each message:

    reader -> sender   o <credit:u32>            open: send up to `credit` bytes to the reply subject
                       c <credit:u32>            so many bytes more
                       q                         enough: stop
                       p                         are you there? (a request; answered with "p")
    sender -> reader   d <seq:u32> <bytes>       the next chunk
                       e <seq:u32> <trailers>    the end; trailers as msgpack, nil when there are none
                       x <seq:u32> <error>       it broke off; [code, message, details] as msgpack
                       p                         are you there?

Each side that waits for longer than PATIENCE asks whether the other is still there, so neither hangs when a process
dies. A missing sequence number means that the broker dropped a chunk: the stream fails instead of lying.
"""

from __future__ import annotations

import asyncio
import itertools
import struct

from lattice.errors import DeadlineExceeded, LatticeError, ProtocolError, Unreachable, from_wire
from lattice.streams import ByteStream, StreamClosed
from lattice.transport import Message, Subscription, Transport
from lattice.values import pack, unpack

WINDOW = 1024 * 1024
"""Bytes on their way to one reader at most."""

PATIENCE = 5.0
"""Seconds of silence before asking whether the other side is still there."""

UNOPENED = 60.0
"""Seconds that an offered stream waits for its reader."""

_U32 = struct.Struct(">I")


class Flow:
    """All streams of one connection, sent and received, behind one wildcard subscription."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.chunk = min(64 * 1024, transport.max_payload - 64)
        self._base = transport.inbox()
        self._numbers = itertools.count(1)
        self._ends: dict[str, _Outgoing | _Incoming] = {}
        self._subscription: Subscription | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Call once, before any offer or pull."""
        if self._subscription is None:
            self._subscription = await self.transport.subscribe(f"{self._base}.*", self._arrived)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._subscription is not None:
            await self._subscription.unsubscribe()
            self._subscription = None

    async def finish(self, seconds: float) -> None:
        """Give streams that are on their way `seconds` to end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def offer(self, stream: ByteStream) -> str:
        """Send `stream` to whoever pulls the subject returned."""
        mine = f"{self._base}.{next(self._numbers)}"
        self._run(mine, _Outgoing(self, stream))
        return mine

    def pull(self, subject: str) -> ByteStream:
        """The stream offered under `subject`."""
        mine = f"{self._base}.{next(self._numbers)}"
        incoming = _Incoming(self, subject, mine)
        self._run(mine, incoming)
        return incoming.stream

    def _run(self, mine: str, end: _Outgoing | _Incoming) -> None:
        self._ends[mine] = end
        task = asyncio.create_task(end.run(), name=f"stream {mine}")
        self._tasks.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            self._ends.pop(mine, None)

        task.add_done_callback(ended)

    async def _arrived(self, message: Message) -> None:
        end = self._ends.get(message.subject)
        if end is None:
            return  # a late word to a stream that has ended
        if message.data[:1] == b"p":
            if message.reply:
                await self.transport.publish(message.reply, b"p")
        else:
            try:
                end.told(message)
            except (struct.error, TypeError, ValueError, LatticeError) as error:
                end.broken(ProtocolError(f"not a word of a stream: {error}"))

    async def there(self, peer: str) -> bool:
        """The process at the other end still lives."""
        try:
            await self.transport.request(peer, b"p", timeout=PATIENCE)
        except Unreachable:
            return False
        except DeadlineExceeded:
            return True  # it listens, and is busy
        return True


async def _quiet(stream: ByteStream) -> bool:
    """Wait for any change of `stream`; True when PATIENCE ran out instead."""
    try:
        async with asyncio.timeout(PATIENCE):
            await stream.changed()
    except TimeoutError:
        return True
    return False


class _Outgoing:
    """One stream that this process sends."""

    def __init__(self, flow: Flow, stream: ByteStream) -> None:
        self.flow = flow
        self.stream = stream
        self.reader = ""
        self.credit = 0
        self.stopped = False

    def told(self, message: Message) -> None:
        match message.data[:1]:
            case b"o" if message.reply:
                self.reader = message.reply
                self.credit += _U32.unpack_from(message.data, 1)[0]
            case b"c":
                self.credit += _U32.unpack_from(message.data, 1)[0]
            case b"q":
                self.stopped = True
        self.stream.nudge()

    def broken(self, error: LatticeError) -> None:
        """The reader talks nonsense: send it no more."""
        self.stopped = True
        self.stream.nudge()

    async def run(self) -> None:
        stream, publish = self.stream, self.flow.transport.publish
        sequence = 0
        try:
            async with asyncio.timeout(UNOPENED):
                while not self.reader and not self.stopped:
                    await stream.changed()
            while not self.stopped:
                if self.credit <= 0 or not stream.readable():
                    if await _quiet(stream) and not await self.flow.there(self.reader):
                        return
                    continue
                number = _U32.pack(sequence)
                sequence += 1
                try:
                    chunk = stream.read_now(min(self.flow.chunk, self.credit))
                except StreamClosed as broken:
                    cause = broken.__cause__
                    error = cause if isinstance(cause, LatticeError) else Unreachable(str(broken))
                    await publish(self.reader, b"x" + number + pack([error.code, error.message, {}]))
                    return
                if not chunk:
                    trailers = None if stream.trailers is None else [list(pair) for pair in stream.trailers]
                    await publish(self.reader, b"e" + number + pack(trailers))
                    return
                self.credit -= len(chunk)
                await publish(self.reader, b"d" + number + chunk)
        except (TimeoutError, LatticeError):
            return  # nobody came for it, or the broker is gone and the reader with it
        finally:
            stream.close()


class _Incoming:
    """One stream that this process receives. Credit never exceeds the room left, so memory stays bounded."""

    def __init__(self, flow: Flow, sender: str, mine: str) -> None:
        self.flow = flow
        self.sender = sender
        self.mine = mine
        self.stream = ByteStream(WINDOW)
        self.expected = 0
        self.granted = WINDOW
        self.over = False

    def told(self, message: Message) -> None:
        if self.over:
            return
        sequence = _U32.unpack_from(message.data, 1)[0]
        if sequence != self.expected:
            self.broken(ProtocolError(f"a chunk of the stream was lost (expected {self.expected}, got {sequence})"))
            return
        self.expected += 1
        rest = message.data[5:]
        try:
            match message.data[:1]:
                case b"d":
                    self.granted -= len(rest)
                    self.stream.write_now(rest)
                case b"e":
                    trailers = unpack(rest)
                    self.over = True
                    self.stream.finish(None if trailers is None else [(k, v) for k, v in trailers])
                case b"x":
                    self.broken(from_wire(*unpack(rest)))
        except StreamClosed:
            self.stream.nudge()  # our own reader left: run() says so to the sender

    def broken(self, error: LatticeError) -> None:
        self.over = True
        self.stream.fail(error)

    async def run(self) -> None:
        stream, publish = self.stream, self.flow.transport.publish
        try:
            await publish(self.sender, b"o" + _U32.pack(WINDOW), reply=self.mine)
            while not self.over and not stream.reader_gone:
                free = stream.room() - self.granted
                if free >= WINDOW // 4:
                    self.granted += free
                    await publish(self.sender, b"c" + _U32.pack(free))
                elif await _quiet(stream) and not self.over and not await self.flow.there(self.sender):
                    self.broken(Unreachable("the other end of the stream is gone"))
            if not self.over:
                await publish(self.sender, b"q")
        except LatticeError as error:
            self.broken(error)
        finally:
            if not self.over:
                self.broken(Unreachable("the stream's connection was closed"))
