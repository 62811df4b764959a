"""wasi:blobstore 0.2.0-draft. Containers and values live in the host; each use is a call without resources.

| WIT                                  | Invocation                                                               |
|--------------------------------------|--------------------------------------------------------------------------|
| blobstore.get-container(name)        | wasi:blobstore/blobstore#container-exists(name)                          |
| container.info()                     | wasi:blobstore/blobstore#get-container-info(name)                        |
| container.get-data(name, start, end) | wasi:blobstore/blobstore#get-container-data(id, start, end): a body      |
| container.write-data(name, value)    | wasi:blobstore/blobstore#write-container-data(id, body)                  |
| container.list-objects()             | wasi:blobstore/blobstore#list-container-objects(name, limit, offset)     |
| container.object-info(name)          | wasi:blobstore/blobstore#get-object-info(id)                             |

and so on, in the names of wrpc:blobstore, where `id` is {"container", "object"} and a body is bytes or a ByteStream.
All go over the actor's link for `wasi:blobstore/blobstore`. Errors are sentences that the guest can handle; only the
end of the caller's time ends the guest too.

`write-data` returns at once, because guests call it before they write the body as well as after. Whether the object
was stored is the answer of `outgoing-value.finish`; until then the store keeps what was there before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from actors.denials import denied, link_grant
from actors.guest import Buffered, Guest
from actors.host_api import Resource, internal, serves
from actors.limits import COPIED
from actors.wasi.io import InputStream, IoError, OutputStream
from lattice import (
    Body,
    ByteStream,
    DeadlineExceeded,
    Denied,
    Function,
    LatticeError,
    NotLinked,
    Trap,
    Value,
    WitError,
)
from lattice.streams import CHUNK, StreamClosed

BLOBSTORE = "wasi:blobstore/blobstore"

CLEAR_CONTAINER = Function(BLOBSTORE, "clear-container")
CONTAINER_EXISTS = Function(BLOBSTORE, "container-exists")
CREATE_CONTAINER = Function(BLOBSTORE, "create-container")
DELETE_CONTAINER = Function(BLOBSTORE, "delete-container")
GET_CONTAINER_INFO = Function(BLOBSTORE, "get-container-info")
LIST_CONTAINER_OBJECTS = Function(BLOBSTORE, "list-container-objects")
COPY_OBJECT = Function(BLOBSTORE, "copy-object")
MOVE_OBJECT = Function(BLOBSTORE, "move-object")
DELETE_OBJECT = Function(BLOBSTORE, "delete-object")
DELETE_OBJECTS = Function(BLOBSTORE, "delete-objects")
GET_CONTAINER_DATA = Function(BLOBSTORE, "get-container-data")
GET_OBJECT_INFO = Function(BLOBSTORE, "get-object-info")
HAS_OBJECT = Function(BLOBSTORE, "has-object")
WRITE_CONTAINER_DATA = Function(BLOBSTORE, "write-container-data")

UNSENT = 16 * 1024 * 1024
"""Bytes that a guest may write into a value before `write-data` says where they go."""

AT_ONCE = COPIED // 32
"""Bytes that `incoming-value-consume-sync` gives at most: on its way into the guest, each takes 32 of the host's."""

NAMES = 10_000
"""Names asked for at a time."""


async def _ask(guest: Guest, function: Function, *args: Value) -> Value:
    try:
        return await guest.call(function, *args)
    except DeadlineExceeded:
        raise
    except LatticeError as error:
        if isinstance(error, Denied):
            denied(guest, BLOBSTORE, function.name, error.message)
        elif isinstance(error, NotLinked):
            denied(guest, BLOBSTORE, function.name, link_grant(BLOBSTORE))
        raise WitError(error.message) from error


class OutgoingValue(Resource, interface="wasi:blobstore/types", name="outgoing-value"):
    """`outgoing-value`: dropped without `finish`, its object is not stored."""

    __slots__ = ("_bytes", "_guest", "_sending", "_streamed")

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._bytes = ByteStream(UNSENT, guest.kept(Buffered))
        self._sending: asyncio.Task[Value] | None = None
        self._streamed = False

    @classmethod
    def new_outgoing_value(cls, guest: Guest) -> OutgoingValue:
        return cls(guest)

    def outgoing_value_write_body(self) -> OutputStream:
        """Once; again is an error."""
        if self._streamed:
            raise WitError
        self._streamed = True
        return OutputStream(_ValueSink(self))

    @staticmethod
    async def finish(guest: Guest, this: OutgoingValue) -> None:
        """The body is complete. Raises WitError with what the store said, once it has stored the object."""
        this._bytes.finish()
        if this._sending is not None:
            await this._sending

    @internal
    async def send(self, id: dict[str, str]) -> None:
        """Begin to store it as `id`: once. Raises WitError when that fails at once, as it does without a link."""
        if self._sending is not None:
            raise WitError("the value is being written already")
        self._bytes.capacity = 4 * CHUNK
        sending = _ask(self._guest, WRITE_CONTAINER_DATA, id, self._bytes)
        self._sending = task = asyncio.get_running_loop().create_task(sending, name=f"object {id['object']}")
        task.add_done_callback(self._ended)
        self._guest.on_end.append(task.cancel)
        await asyncio.sleep(0)
        if task.done():
            self._bytes.close()
            await task

    def _ended(self, task: asyncio.Task[Value]) -> None:
        self._bytes.close()  # a store that has answered reads no more
        if not task.cancelled():
            task.exception()  # seen: whoever calls `finish` is told

    def dropped(self) -> None:
        reason = self._guest.failure or Trap(f'"{self._guest.actor}" dropped the value without finishing it')
        self._bytes.fail(reason)

    # -- the sink

    @internal
    def room(self) -> int:
        if self._bytes.reader_gone:
            raise WitError({"last-operation-failed": IoError(self._why())})
        room = self._bytes.room()
        if room == 0 and self._sending is None:
            raise WitError(
                {
                    "last-operation-failed": IoError(
                        f"call container.write-data before more than {UNSENT} bytes are written"
                    )
                }
            )
        return room

    def _why(self) -> str:
        task = self._sending
        error = task.exception() if task is not None and task.done() and not task.cancelled() else None
        said = error.payload if isinstance(error, WitError) else error
        return str(said) if said else "the store reads no more"

    @internal
    def take(self, data: bytes) -> None:
        try:
            self._bytes.write_now(data)
        except StreamClosed:
            raise WitError({"last-operation-failed": IoError(self._why())}) from None

    @internal
    def watch(self, waiter: asyncio.Future[None]) -> Callable[[], object]:
        return self._bytes.watch(waiter)


class _ValueSink:
    """OutgoingValue as a Sink."""

    __slots__ = ("room", "watch", "write")

    def __init__(self, value: OutgoingValue) -> None:
        self.room = value.room
        self.write = value.take
        self.watch = value.watch


class IncomingValue(Resource, interface="wasi:blobstore/types", name="incoming-value"):
    """`incoming-value`: an object, or a part of one, on its way."""

    __slots__ = ("_container", "_end", "_name", "_source", "_start", "_whole")

    def __init__(self, container: Container, name: str, start: int, end: int, body: Body) -> None:
        self._container = container
        self._name = name
        self._start = start
        self._end = end
        self._source = body if isinstance(body, ByteStream) else ByteStream.of(body)
        self._whole = None if isinstance(body, ByteStream) else len(body)

    @staticmethod
    async def incoming_value_consume_sync(guest: Guest, this: IncomingValue) -> bytes:
        """Raises WitError when it broke off, or is more than AT_ONCE bytes."""
        try:
            return await this._source.read_all(AT_ONCE)
        except ValueError:
            raise WitError(
                f"the value is larger than {AT_ONCE} bytes; read it by incoming-value-consume-async"
            ) from None
        except StreamClosed as closed:
            raise WitError(str(closed)) from closed
        finally:
            this._source.close()

    @staticmethod
    def incoming_value_consume_async(guest: Guest, this: IncomingValue) -> InputStream:
        return _ValueStream(this._source)

    async def size(self) -> int:
        """Bytes of this value. The store is asked when that cannot be seen; there is no error to answer with."""
        if self._whole is None:
            found = await self._container.object_info(self._name)
            self._whole = max(0, min(self._end + 1, found["size"]) - self._start)
        return self._whole

    def dropped(self) -> None:
        self._source.close()


class _ValueStream(InputStream):
    """The input-stream of a value: letting go of it tells the store that nobody reads on."""

    __slots__ = ("_bytes",)

    def __init__(self, source: ByteStream) -> None:
        super().__init__(source)
        self._bytes = source

    def dropped(self) -> None:
        self._bytes.close()


@serves("wasi:blobstore/types", OutgoingValue, IncomingValue)
class Types:
    """Has no functions of its own."""


class StreamObjectNames(Resource, interface="wasi:blobstore/container", name="stream-object-names"):
    """`stream-object-names`: asks for the next names when they are wanted."""

    __slots__ = ("_container", "_ended", "_offset")

    def __init__(self, container: Container) -> None:
        self._container = container
        self._offset = 0
        self._ended = False

    async def read_stream_object_names(self, len: int) -> tuple[list[str], bool]:
        """The names, and whether there are no more."""
        found: list[str] = []
        while (missing := len - _count(found)) > 0 and not self._ended:
            found += await self._next(missing)
        return found, self._ended

    async def skip_stream_object_names(self, num: int) -> tuple[int, bool]:
        skipped = 0
        while skipped < num and not self._ended:
            skipped += _count(await self._next(num - skipped))
        return skipped, self._ended

    async def _next(self, most: int) -> list[str]:
        limit = min(most, NAMES)
        names: list[str] = await self._container.ask(LIST_CONTAINER_OBJECTS, limit, self._offset)
        self._offset += _count(names)
        self._ended = _count(names) < limit
        return names


_count = len
"""`len` is what WIT calls the parameter."""


class Container(Resource, interface="wasi:blobstore/container", name="container"):
    """`container`, by its name."""

    __slots__ = ("_guest", "_name")

    def __init__(self, guest: Guest, name: str) -> None:
        self._guest = guest
        self._name = name

    @internal
    async def ask(self, function: Function, *args: Value) -> Value:
        """A function that takes the container's name first."""
        return await _ask(self._guest, function, self._name, *args)

    def _id(self, name: str) -> dict[str, str]:
        return {"container": self._name, "object": name}

    def name(self) -> str:
        return self._name

    async def info(self) -> Value:
        found = await self.ask(GET_CONTAINER_INFO)
        return {"name": self._name, "created-at": found["created-at"]}

    async def get_data(self, name: str, start: int, end: int) -> IncomingValue:
        """From `start` to `end`, both included; what lies beyond the end of the object is left out."""
        body: Body = await _ask(self._guest, GET_CONTAINER_DATA, self._id(name), start, end)
        return IncomingValue(self, name, start, end, body)

    async def write_data(self, name: str, data: OutgoingValue) -> None:
        await data.send(self._id(name))

    def list_objects(self) -> StreamObjectNames:
        return StreamObjectNames(self)

    async def delete_object(self, name: str) -> None:
        await _ask(self._guest, DELETE_OBJECT, self._id(name))

    async def delete_objects(self, names: list[str]) -> None:
        await self.ask(DELETE_OBJECTS, names)

    async def has_object(self, name: str) -> Value:
        return await _ask(self._guest, HAS_OBJECT, self._id(name))

    async def object_info(self, name: str) -> Value:
        found = await _ask(self._guest, GET_OBJECT_INFO, self._id(name))
        return {"name": name, "container": self._name, "created-at": found["created-at"], "size": found["size"]}

    async def clear(self) -> None:
        await self.ask(CLEAR_CONTAINER)


@serves("wasi:blobstore/container", Container, StreamObjectNames)
class ContainerInterface:
    """Has no functions of its own."""


@serves(BLOBSTORE)
class Blobstore:
    @staticmethod
    async def create_container(guest: Guest, name: str) -> Container:
        await _ask(guest, CREATE_CONTAINER, name)
        return Container(guest, name)

    @staticmethod
    async def get_container(guest: Guest, name: str) -> Container:
        if not await _ask(guest, CONTAINER_EXISTS, name):
            raise WitError(f'there is no container "{name}"')
        return Container(guest, name)

    @staticmethod
    async def delete_container(guest: Guest, name: str) -> None:
        await _ask(guest, DELETE_CONTAINER, name)

    @staticmethod
    async def container_exists(guest: Guest, name: str) -> Value:
        return await _ask(guest, CONTAINER_EXISTS, name)

    @staticmethod
    async def copy_object(guest: Guest, src: Value, dest: Value) -> None:
        await _ask(guest, COPY_OBJECT, src, dest)

    @staticmethod
    async def move_object(guest: Guest, src: Value, dest: Value) -> None:
        await _ask(guest, MOVE_OBJECT, src, dest)
