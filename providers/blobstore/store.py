"""What every blob store provider shares: the exported functions, bodies on their way, and what a store must do.

wasi:blobstore 0.2.0-draft without resources (blobstore.wit), in the names of wrpc:blobstore. `id` is
{"container": str, "object": str}; a body is bytes, or a ByteStream when it comes in time.

| function                                       | arguments            | result                                       |
|------------------------------------------------|----------------------|----------------------------------------------|
| wasi:blobstore/blobstore#create-container      | name                 |                                              |
| wasi:blobstore/blobstore#container-exists      | name                 | bool                                         |
| wasi:blobstore/blobstore#get-container-info    | name                 | {"name", "created-at"}                       |
| wasi:blobstore/blobstore#clear-container       | name                 |                                              |
| wasi:blobstore/blobstore#delete-container      | name                 |                                              |
| wasi:blobstore/blobstore#list-container-objects | name, limit, offset | names (in wrpc, a stream of them)            |
| wasi:blobstore/blobstore#write-container-data  | id, body             |                                              |
| wasi:blobstore/blobstore#get-container-data    | id, start, end       | a body; both ends are included               |
| wasi:blobstore/blobstore#get-object-info       | id                   | {"name", "container", "created-at", "size"}  |
| wasi:blobstore/blobstore#has-object            | id                   | bool                                         |
| wasi:blobstore/blobstore#copy-object           | id, id               |                                              |
| wasi:blobstore/blobstore#move-object           | id, id               |                                              |
| wasi:blobstore/blobstore#delete-object         | id                   |                                              |
| wasi:blobstore/blobstore#delete-objects        | container, names     |                                              |

Times are in seconds since 1970. Errors are answers: WitError("a sentence").
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from lattice import Body, Busy, ByteStream, DeadlineExceeded, LatticeError, Unreachable, Value, WitError
from lattice.streams import CHUNK, StreamClosed
from providers.link import Link
from providers.provider import Provider, export

BLOBSTORE = "wasi:blobstore/blobstore"

READERS = 256
"""Bodies that are on their way to readers at a time; more reads get Busy."""


class ObjectId(NamedTuple):
    container: str
    object: str

    def __str__(self) -> str:
        return f'"{self.object}" in container "{self.container}"'


class Info(NamedTuple):
    size: int
    created_at: int


class Refused(Exception):
    """The store cannot do that: a sentence for the guest."""


class Reader(Protocol):
    """An object that is being read; what it was when it was opened, whatever happens to it meanwhile."""

    @property
    def size(self) -> int:
        """Bytes that are still to come."""

    async def read(self) -> bytes:
        """The next bytes; b"" at the end."""

    def close(self) -> None:
        """A second call does nothing."""


class Store(ABC):
    """Containers of objects. Any string is a name. Methods raise Refused, or LatticeError."""

    @abstractmethod
    async def create_container(self, name: str) -> None:
        """One that is there already stays as it is."""

    @abstractmethod
    async def container_created(self, name: str) -> int | None:
        """When, or None when there is no such container."""

    @abstractmethod
    async def clear_container(self, name: str) -> None: ...

    @abstractmethod
    async def delete_container(self, name: str) -> None:
        """With all its objects. Deleting what is not there does nothing."""

    @abstractmethod
    async def list_objects(self, container: str, offset: int, limit: int | None) -> list[str]:
        """In an order that stays the same from page to page."""

    @abstractmethod
    async def info(self, id: ObjectId) -> Info | None:
        """None when there is no such object."""

    @abstractmethod
    async def open(self, id: ObjectId, start: int, end: int) -> Reader:
        """From `start` to `end`, both included, as far as the object goes."""

    @abstractmethod
    async def write(self, id: ObjectId, chunks: AsyncIterator[bytes]) -> None:
        """Readers see the old object until the new one is complete; one whose chunks break off never is."""

    @abstractmethod
    async def delete(self, id: ObjectId) -> None:
        """Deleting what is not there does nothing."""

    @abstractmethod
    async def move(self, source: ObjectId, target: ObjectId) -> None: ...

    async def copy(self, source: ObjectId, target: ObjectId) -> None:
        reader = await self.open(source, 0, 2**64 - 1)
        try:
            await self.write(target, _chunks_of(reader))
        finally:
            reader.close()


async def _chunks_of(reader: Reader) -> AsyncIterator[bytes]:
    while chunk := await reader.read():
        yield chunk


async def _chunks(body: Body) -> AsyncGenerator[bytes, None]:
    """Raises LatticeError when the body breaks off."""
    if not isinstance(body, ByteStream):
        if body:
            yield bytes(body)
        return
    try:
        async for chunk in body:
            yield chunk
    except StreamClosed as broken:
        raise Unreachable(f"the object's bytes broke off: {broken}") from broken


class BlobStore(Provider):
    """Subclass it and say which Store a link means."""

    wit = Path(__file__).parent / "blobstore.wit"

    _readers = 0

    def store(self, link: Link[Any]) -> Store:
        """The one that `link` was accepted with."""
        raise NotImplementedError

    # -- containers

    @export(f"{BLOBSTORE}#create-container")
    async def create_container(self, link: Link[Any], name: str) -> None:
        """Succeeds for one that is there already, as wasmCloud's does."""
        with _answers():
            await self.store(link).create_container(name)

    @export(f"{BLOBSTORE}#container-exists")
    async def container_exists(self, link: Link[Any], name: str) -> bool:
        with _answers():
            return await self.store(link).container_created(name) is not None

    @export(f"{BLOBSTORE}#get-container-info")
    async def get_container_info(self, link: Link[Any], name: str) -> dict[str, Value]:
        with _answers():
            created = await self.store(link).container_created(name)
        if created is None:
            raise WitError(no_container(name))
        return {"name": name, "created-at": created}

    @export(f"{BLOBSTORE}#clear-container")
    async def clear_container(self, link: Link[Any], name: str) -> None:
        with _answers():
            await self.store(link).clear_container(name)

    @export(f"{BLOBSTORE}#delete-container")
    async def delete_container(self, link: Link[Any], name: str) -> None:
        with _answers():
            await self.store(link).delete_container(name)

    @export(f"{BLOBSTORE}#list-container-objects")
    async def list_container_objects(
        self, link: Link[Any], name: str, limit: int | None, offset: int | None
    ) -> list[str]:
        with _answers():
            return await self.store(link).list_objects(name, offset or 0, limit)

    # -- objects

    @export(f"{BLOBSTORE}#write-container-data")
    async def write_container_data(self, link: Link[Any], id: Mapping[str, str], data: Body) -> None:
        """Returns when the object is stored."""
        with _answers():
            try:
                async with aclosing(_chunks(data)) as chunks:
                    await self.store(link).write(ObjectId(**id), chunks)
            finally:
                if isinstance(data, ByteStream):
                    data.close()

    @export(f"{BLOBSTORE}#get-container-data")
    async def get_container_data(self, link: Link[Any], id: Mapping[str, str], start: int, end: int) -> Body:
        if start > end:
            raise WitError(f"the range begins at {start}, after its end at {end}")
        if self._readers >= READERS:
            raise Busy(f"{READERS} objects are being read already")
        with _answers():
            reader = await self.store(link).open(ObjectId(**id), start, end)
            if reader.size <= CHUNK:
                try:
                    return b"".join([chunk async for chunk in _chunks_of(reader)])
                finally:
                    reader.close()
        body = ByteStream()
        self._readers += 1
        sending = self.spawn(_send(reader, body), name=f"object {ObjectId(**id).object}")
        sending.add_done_callback(lambda _: self._sent(reader, body))
        return body

    def _sent(self, reader: Reader, body: ByteStream) -> None:
        self._readers -= 1
        reader.close()
        body.fail(Unreachable("the provider stopped"))  # unless it has ended, well or not

    @export(f"{BLOBSTORE}#get-object-info")
    async def get_object_info(self, link: Link[Any], id: Mapping[str, str]) -> dict[str, Value]:
        wanted = ObjectId(**id)
        with _answers():
            found = await self.store(link).info(wanted)
        if found is None:
            raise WitError(no_object(wanted))
        return {
            "name": wanted.object,
            "container": wanted.container,
            "created-at": found.created_at,
            "size": found.size,
        }

    @export(f"{BLOBSTORE}#has-object")
    async def has_object(self, link: Link[Any], id: Mapping[str, str]) -> bool:
        with _answers():
            return await self.store(link).info(ObjectId(**id)) is not None

    @export(f"{BLOBSTORE}#copy-object")
    async def copy_object(self, link: Link[Any], src: Mapping[str, str], dest: Mapping[str, str]) -> None:
        with _answers():
            await self.store(link).copy(ObjectId(**src), ObjectId(**dest))

    @export(f"{BLOBSTORE}#move-object")
    async def move_object(self, link: Link[Any], src: Mapping[str, str], dest: Mapping[str, str]) -> None:
        with _answers():
            await self.store(link).move(ObjectId(**src), ObjectId(**dest))

    @export(f"{BLOBSTORE}#delete-object")
    async def delete_object(self, link: Link[Any], id: Mapping[str, str]) -> None:
        with _answers():
            await self.store(link).delete(ObjectId(**id))

    @export(f"{BLOBSTORE}#delete-objects")
    async def delete_objects(self, link: Link[Any], container: str, names: list[str]) -> None:
        """Not all or nothing: some may be gone when it fails."""
        with _answers():
            store = self.store(link)
            for name in names:
                await store.delete(ObjectId(container, name))


async def _send(reader: Reader, body: ByteStream) -> None:
    """The object into the body, as fast as the other side reads."""
    try:
        async for chunk in _chunks_of(reader):
            await body.write(chunk)
    except StreamClosed:
        return  # nobody reads on
    except (Refused, LatticeError) as error:
        body.fail(Unreachable(str(error)))
    else:
        body.finish()


def no_container(name: str) -> str:
    return f'there is no container "{name}"'


def no_object(id: ObjectId) -> str:
    return f"there is no object {id}"


@contextmanager
def _answers() -> Iterator[None]:
    """What a guest can handle becomes an answer; only the end of its time ends the call."""
    try:
        yield
    except DeadlineExceeded:
        raise
    except (LatticeError, Refused) as error:
        raise WitError(str(error)) from error
