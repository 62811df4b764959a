"""A blob store on NATS: an object store for each container, as every NATS client knows it, with wasmCloud's keys.

An object is a message about it (`$O.bucket.M.name`) and its bytes in pieces (`$O.bucket.C.id`). Writing it anew makes
new pieces and then a new message, so a reader that comes in between sees the old object, and a writer that breaks off
leaves nothing but pieces, which it takes away. The old pieces go at once: who is still reading them is told so.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pydantic import AliasChoices, Field

from lattice import BadInput, Finding, LatticeError, read_json
from lattice.jetstream import SECOND, JetStream, NotFound
from lattice.nats_transport import NatsOptions
from lattice.transport import Transport
from providers.blobstore.store import BlobStore, Info, ObjectId, Reader, Refused, Store, no_container, no_object
from providers.link import Link, LinkId
from providers.nats import Connections, NatsLogin

PIECE = 128 * 1024
"""Bytes of a piece, as other NATS clients have it; less where the server takes no such messages."""
HEADERS = 4096
"""Bytes of a message that are left for its headers."""
TOGETHER = 8
"""Pieces of one object that are on their way to the server at a time."""
LONGEST = 200
"""Bytes of a container's name when it is written as JetStream takes it; its own limit is 255, for all of the name."""

NO_STREAM = 10059
"""JetStream's number for a stream that is not there."""


class NatsLink(NatsLogin):
    """A link's target_config."""

    cluster_uri: str | None = Field(None, repr=False)
    """Another NATS server than the lattice's."""
    js_domain: str | None = None
    prefix: str = Field("", pattern=r"^[A-Za-z0-9_-]*$")
    """Put before the names of this link's containers: with another prefix, actors have other containers."""
    max_write_wait: float = Field(30.0, gt=0, le=3600)
    """Seconds that the server may take for one piece."""
    storage_type: Literal["file", "memory"] = "file"
    num_replicas: int = Field(1, ge=1, le=5)
    compression: bool = False
    max_age: int = Field(0, ge=0)
    """Seconds that an object is kept; 0: for ever. What is said of storage holds for containers that are made."""
    max_bytes: int | None = Field(None, ge=1, validation_alias=AliasChoices("max_bytes", "max_size"))
    """What one container may hold."""

    def options(self) -> NatsOptions | None:
        """The connection it wants for itself; None: the lattice's own will do."""
        return self.connection("trellis blobstore-nats", self.cluster_uri)

    def stream(self, bucket: str) -> dict[str, Any]:
        """The configuration of the stream behind a container."""
        return {
            "name": f"OBJ_{bucket}",
            "subjects": [f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"],
            "storage": self.storage_type,
            "num_replicas": self.num_replicas,
            "compression": "s2" if self.compression else "none",
            "max_age": self.max_age * SECOND,
            "max_bytes": self.max_bytes or -1,
            "discard": "new",
            "allow_rollup_hdrs": True,
            "allow_direct": True,
        }


class Object(NamedTuple):
    """What the message about an object says."""

    name: str
    pieces: str
    """The last part of its pieces' subject."""
    size: int
    digest: str
    written: int

    @classmethod
    def of(cls, data: bytes, written: int) -> Object | None:
        """None when it was deleted, or is a link to another object, which is not followed."""
        try:
            said = read_json(data)
            if said.get("deleted") or (said.get("options") or {}).get("link"):
                return None
            return cls(
                str(said["name"]), str(said["nuid"]), int(said.get("size", 0)), str(said.get("digest", "")), written
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Refused("what describes the object cannot be read") from None


def bucket_of(name: str) -> str:
    """A container's name as NATS takes it: what it forbids, as `=XX` for each UTF-8 byte. Raises Refused."""
    bucket = re.sub(r"[^A-Za-z0-9_-]+", lambda m: "".join(f"={b:02X}" for b in _utf8(m[0])), name)
    if len(bucket) > LONGEST:
        raise Refused(f"a name of {len(bucket)} bytes is too long; {LONGEST} at most")
    return bucket or "="


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _about(bucket: str, name: str) -> str:
    return f"$O.{bucket}.M.{base64.urlsafe_b64encode(_utf8(name)).decode() or '='}"


def _seconds(text: str) -> int:
    """Of JetStream's times, which have nine digits after the second."""
    return int(datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())


@contextmanager
def _in(container: str) -> Iterator[None]:
    """JetStream's word that there is no such stream, as ours that there is no such container."""
    try:
        yield
    except NotFound:
        raise Refused(no_container(container)) from None


class PieceReader:
    """An object from `start` on, piece by piece; nothing is kept on the server for it."""

    def __init__(self, store: NatsStore, bucket: str, found: Object, start: int, size: int) -> None:
        self.size = size
        self._store = store
        self._bucket = bucket
        self._subject = f"$O.{bucket}.C.{found.pieces}"
        self._skip = start
        self._sequence = 1
        # only a whole object can be held against its digest
        self._wanted = found.digest if start == 0 and size == found.size else ""
        self._digest = hashlib.sha256()

    async def skip(self) -> None:
        """Find the piece that holds the first byte, by the sizes of those before it alone."""
        if self._skip < PIECE:
            return
        pieces = self._store.jetstream.walk(f"OBJ_{self._bucket}", self._subject, headers_only=True)
        async with aclosing(pieces):
            async for piece in pieces:
                size = int((piece.message.headers or {}).get("Nats-Msg-Size", 0))
                self._sequence = piece.sequence
                if self._skip < size:
                    return
                self._skip -= size

    async def read(self) -> bytes:
        while self.size > 0:
            body = {"seq": self._sequence, "next_by_subj": self._subject}
            try:
                piece = await self._store.jetstream.direct(f"OBJ_{self._bucket}", body)
            except NotFound:
                raise Refused("the object was deleted or replaced while it was read") from None
            self._sequence = int((piece.headers or {})["Nats-Sequence"]) + 1
            if self._wanted:
                self._digest.update(piece.data)
            data = piece.data[self._skip : self._skip + self.size]
            self._skip = max(0, self._skip - len(piece.data))
            self.size -= len(data)
            if self.size == 0 and self._wanted and self._wanted != _digest(self._digest):
                raise Refused("the object is damaged: its bytes do not match its digest")
            if data:
                return data
        return b""

    def close(self) -> None:
        self.size = 0


def _digest(digest: Any) -> str:
    return f"SHA-256={base64.urlsafe_b64encode(digest.digest()).decode()}"


class NatsStore(Store):
    """The containers that one link reaches."""

    def __init__(self, jetstream: JetStream, config: NatsLink) -> None:
        self.jetstream = jetstream
        self._writing = JetStream(jetstream.transport, timeout=config.max_write_wait)
        self._config = config
        self._piece = min(PIECE, jetstream.transport.max_payload - HEADERS)

    def _bucket(self, container: str) -> str:
        return self._config.prefix + bucket_of(container)

    # -- containers

    async def create_container(self, name: str) -> None:
        stream = self._config.stream(self._bucket(name))
        if await self.container_created(name) is None:
            await self.jetstream.ask(f"STREAM.CREATE.{stream['name']}", stream)

    async def container_created(self, name: str) -> int | None:
        try:
            info = await self.jetstream.ask(f"STREAM.INFO.OBJ_{self._bucket(name)}")
        except NotFound:
            return None
        return _seconds(info["created"])

    async def clear_container(self, name: str) -> None:
        with _in(name):
            await self.jetstream.ask(f"STREAM.PURGE.OBJ_{self._bucket(name)}")

    async def delete_container(self, name: str) -> None:
        with suppress(NotFound):
            await self.jetstream.ask(f"STREAM.DELETE.OBJ_{self._bucket(name)}")

    async def list_objects(self, container: str, offset: int, limit: int | None) -> list[str]:
        bucket = self._bucket(container)
        with _in(container):
            entries = self.jetstream.walk(f"OBJ_{bucket}", f"$O.{bucket}.M.>", deliver_policy="last_per_subject")
            async with aclosing(entries):
                objects = [Object.of(entry.message.data, 0) async for entry in entries]
        names = sorted(found.name for found in objects if found is not None)
        return names[offset:] if limit is None else names[offset : offset + limit]

    # -- objects

    async def _find(self, id: ObjectId) -> Object | None:
        bucket = self._bucket(id.container)
        try:
            answer = await self.jetstream.ask(
                f"STREAM.MSG.GET.OBJ_{bucket}", {"last_by_subj": _about(bucket, id.object)}
            )
        except NotFound as error:
            if error.number == NO_STREAM:
                raise Refused(no_container(id.container)) from None
            return None
        message = answer["message"]
        return Object.of(base64.b64decode(message.get("data", "")), _seconds(message["time"]))

    async def info(self, id: ObjectId) -> Info | None:
        found = await self._find(id)
        return None if found is None else Info(found.size, found.written)

    async def open(self, id: ObjectId, start: int, end: int) -> Reader:
        found = await self._find(id)
        if found is None:
            raise Refused(no_object(id))
        reader = PieceReader(self, self._bucket(id.container), found, start, max(0, min(end + 1, found.size) - start))
        if reader.size:
            await reader.skip()
        return reader

    async def write(self, id: ObjectId, chunks: AsyncIterator[bytes]) -> None:
        old = await self._find(id)  # there, and a name that can be: said before all the bytes have come
        bucket, pieces = self._bucket(id.container), secrets.token_hex(11)
        try:
            size, count, digest = await self._write_pieces(f"$O.{bucket}.C.{pieces}", chunks)
            about = {
                "name": id.object,
                "bucket": bucket,
                "nuid": pieces,
                "size": size,
                "chunks": count,
                "digest": digest,
                "mtime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "options": {"max_chunk_size": self._piece},
            }
            await self._describe(id, about)
        except BaseException:
            await self._purge(bucket, pieces)
            raise
        if old is not None:
            await self._purge(bucket, old.pieces)

    async def _write_pieces(self, subject: str, chunks: AsyncIterator[bytes]) -> tuple[int, int, str]:
        """(bytes, pieces, digest) of what was written."""
        size, count, digest = 0, 0, hashlib.sha256()
        under_way: set[asyncio.Task[int]] = set()
        try:
            async for piece in _pieces(chunks, self._piece):
                digest.update(piece)
                size, count = size + len(piece), count + 1
                if len(under_way) == TOGETHER:
                    done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                    under_way -= done
                # a task begins in the order it was made in, and so does its message
                under_way.add(asyncio.create_task(self._writing.publish(subject, piece), name=subject))
            for task in under_way:
                await task
        finally:
            # what is on its way arrives, or it could come after it was taken away
            await asyncio.gather(*under_way, return_exceptions=True)
        return size, count, _digest(digest)

    async def _describe(self, id: ObjectId, about: Mapping[str, Any]) -> None:
        subject = _about(self._bucket(id.container), id.object)
        await self._writing.publish(subject, json.dumps(about).encode(), {"Nats-Rollup": "sub"})

    async def _purge(self, bucket: str, pieces: str) -> None:
        """Take away pieces that no object has any more. What cannot be taken away now is left."""
        with suppress(LatticeError, NotFound):
            await self.jetstream.ask(f"STREAM.PURGE.OBJ_{bucket}", {"filter": f"$O.{bucket}.C.{pieces}"})

    async def delete(self, id: ObjectId) -> None:
        found = await self._find(id)
        if found is not None:
            bucket = self._bucket(id.container)
            about = {"name": id.object, "bucket": bucket, "nuid": found.pieces, "deleted": True}
            await self._describe(id, about)
            await self._purge(bucket, found.pieces)

    async def move(self, source: ObjectId, target: ObjectId) -> None:
        await self.copy(source, target)
        if source != target:
            await self.delete(source)


async def _pieces(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The same bytes in pieces of `size`; the last one may be smaller."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


class NatsBlobStore(BlobStore):
    """`builtin:blobstore-nats`. Actors whose links name the same server and prefix share its containers."""

    link_config = NatsLink

    def __init__(self, transport: Transport | None = None) -> None:
        self._stores: dict[LinkId, NatsStore] = {}
        self._connections = Connections(transport)

    def store(self, link: Link[Any]) -> NatsStore:
        return self._stores[link.id]

    async def link_added(self, link: Link[NatsLink]) -> None:
        transport = await self._connections.of(self, link.config.options())
        jetstream = JetStream(transport, link.config.js_domain)
        try:
            await jetstream.ask("INFO")
        except LatticeError as error:
            raise BadInput(
                Finding(
                    "TRL-PRV-010",
                    f"link {link.record}: {error.message}",
                    fix="start the NATS server with JetStream, and allow this login to use it",
                )
            ) from error
        self._stores[link.id] = NatsStore(jetstream, link.config)

    async def link_removed(self, link: Link[Any]) -> None:
        self._stores.pop(link.id, None)

    async def healthy(self) -> bool | str:
        """Whether JetStream answers at every server that a link uses."""
        for jetstream in {store.jetstream.transport: store.jetstream for store in self._stores.values()}.values():
            try:
                await jetstream.ask("INFO")
            except LatticeError as error:
                return error.message
        return True

    async def stopped(self) -> None:
        await self._connections.close()
