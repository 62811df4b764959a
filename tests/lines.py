"""A line to a broker that a test can cut: nothing comes through, and nobody is told, as when a switch dies."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType


class Line:
    """`async with Line(port) as line`: `line.port` leads to `port` of this machine, except while it is cut.

    What was sent on its way while it was cut arrives after it was mended, as TCP sends again what was lost.
    """

    def __init__(self, to: int) -> None:
        self.port = 0
        self._to = to
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    async def __aenter__(self) -> Line:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
            try:
                ways = (self._one_way(reader, far_writer), self._one_way(far_reader, writer))
                await asyncio.wait([asyncio.create_task(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
            finally:
                far_writer.close()
        except OSError:
            pass
        finally:
            writer.close()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                await self._whole.wait()
                data = await reader.read(64 * 1024)
                await self._whole.wait()
                if not data:
                    return
                writer.write(data)
                await writer.drain()
