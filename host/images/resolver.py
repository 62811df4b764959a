"""From an image reference to a file with the component in it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from wasmtime import WasmtimeError, wat2wasm

from host.images import failures, media
from host.images.cache import LIMIT, ImageCache, Incoming
from host.images.credentials import Credentials
from host.images.reference import FileImage, RegistryImage, WebImage, parse
from host.images.registry import Registry
from host.images.web import PIECE, Web
from lattice.images import ImageStore, NoImage

log = structlog.get_logger("host")

LARGEST = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """What a host may fetch, and how."""

    allow_latest: bool = False
    """Take the tag `latest`, which may mean something else on every host."""
    insecure: tuple[str, ...] = ()
    """Servers (HOST or HOST:PORT) that are spoken to without TLS."""
    ca_file: Path | None = None
    """PEM certificates of the CAs to believe; None: the system's."""
    cache: Path | None = None
    """Where fetched images are kept; None: the user's folder for caches."""
    cache_limit: int = LIMIT
    """Bytes."""
    largest: int = LARGEST
    """Bytes of one image."""
    seconds: float = 600.0
    """For fetching one image, however slowly it comes."""
    docker_config: Path | None = None
    """Docker's config.json; None: where Docker has it."""


class Images:
    """Fetches images, each once however many ask at the same time. `close()` it at the end.

    `store` is the lattice's own; `given` are the credentials that the lattice was told, by registry.
    """

    def __init__(
        self,
        settings: ImageSettings | None = None,
        store: ImageStore | None = None,
        given: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self.settings = settings or ImageSettings()
        self.web = Web(self.settings.insecure, self.settings.ca_file)
        self.credentials = Credentials(given, self.settings.docker_config)
        self._store = store
        self._cache: ImageCache | None = None
        self._fetching: dict[str, asyncio.Task[Path]] = {}

    @property
    def cache(self) -> ImageCache:
        """Made with the first image that comes from elsewhere."""
        if self._cache is None:
            self._cache = ImageCache(self.settings.cache, self.settings.cache_limit)
        return self._cache

    async def fetch(self, reference: str) -> Path:
        """The file that holds what `reference` means. Raises BadInput, with what can be done about it.

        The file is the caller's to read now, not to keep: it may be the user's own, or one of the cache's.
        """
        task = self._fetching.get(reference)
        if task is None:
            task = asyncio.create_task(self._fetch(reference), name=f"fetch {reference}")
            self._fetching[reference] = task
            task.add_done_callback(lambda done: self._fetched(reference, done))
        return await asyncio.shield(task)

    async def pinned(self, reference: str) -> tuple[str, Path]:
        """The same reference with the digest of what it means now, and the file that holds that. Raises BadInput.

        A tag can move, and a file on the web can change: what was pinned stays what it is.
        """
        image = parse(reference)
        if isinstance(image, RegistryImage) and image.digest is None:
            digest, _, _ = await (await self.registry(image)).manifest(image.selector)
            reference += f"@sha256:{digest}"
        path = await self.fetch(reference)
        if image.digest is None and not isinstance(image, RegistryImage):
            reference += f"#sha256:{await asyncio.to_thread(component_digest, path, self.settings.largest)}"
        return reference, path

    async def media_types(self, reference: str) -> frozenset[str]:
        """Of the parts of an image in a registry; none for what is elsewhere. Raises BadInput."""
        image = parse(reference)
        if not isinstance(image, RegistryImage):
            return frozenset()
        return await (await self.registry(image)).media_types()

    def _fetched(self, reference: str, done: asyncio.Task[Path]) -> None:
        self._fetching.pop(reference, None)
        if not done.cancelled():
            done.exception()  # seen, also where everybody who waited for it has left

    async def _fetch(self, reference: str) -> Path:
        image = parse(reference)
        try:
            async with asyncio.timeout(self.settings.seconds):
                match image:
                    case FileImage():
                        return await self._file(image)
                    case WebImage():
                        return await self._download(image)
                    case RegistryImage():
                        return await self._pull(image)
        except TimeoutError:
            raise failures.unreachable(reference, f"it took longer than {self.settings.seconds:g} s") from None

    # -- files, and the lattice's store

    async def _file(self, image: FileImage) -> Path:
        """The file itself while it is what its digest says; else that content from the cache or the lattice."""
        if image.digest is None:
            return image.path
        try:
            found = await asyncio.to_thread(component_digest, image.path, self.settings.largest)
        except OSError as error:
            found, why = "", f"{image.path}: {error.strerror or error}"
        else:
            why = f"{image.path} is sha256:{found} now"
        if found == image.digest:
            return image.path
        cached = await self.cache.find(image.digest)
        if cached is not None:
            return cached
        if self._store is not None:
            begun = time.monotonic()
            log.info("image.fetching", image=str(image.path), digest=image.digest)
            async with self.cache.receive(str(image.path), self.settings.largest) as incoming:
                try:
                    async for part in self._store.read(image.digest):
                        incoming.write(part)
                except NoImage as error:
                    why += f"; {error}"
                else:
                    if incoming.digest != image.digest:
                        raise failures.mismatch(
                            f"what the lattice keeps for {image.path}",
                            f"sha256:{image.digest}",
                            f"sha256:{incoming.digest}",
                            "deploy it again under another version",
                        )
                    return await self._keep(incoming, f"{image.path}", "lattice", begun)
        fix = "deploy it again:  trellis deploy  takes the file along"
        if found:
            raise failures.mismatch(str(image.path), f"sha256:{image.digest}", f"sha256:{found}", fix)
        raise failures.not_found(f"the file {image.path} (sha256:{image.digest[:12]})", why, fix)

    async def put_back(self, reference: str) -> None:
        """Give the lattice's store a file's image that it has lost. Raises BadInput when we do not have it either."""
        image = parse(reference)
        if not isinstance(image, FileImage) or image.digest is None or self._store is None:
            return
        if await self._store.find(image.digest) is None:
            data = await asyncio.to_thread(component_bytes, await self.fetch(reference), self.settings.largest)
            await self._store.put(image.digest, data, image.path.name)
            log.warning("image.put_back", image=str(image.path), digest=image.digest)

    # -- the web

    async def _download(self, image: WebImage) -> Path:
        if image.digest is not None and (cached := await self.cache.find(image.digest)) is not None:
            return cached
        server = urlsplit(image.url).netloc
        if image.digest is None and image.url.startswith("http://") and not self.web.may_be_plain(server):
            raise failures.not_allowed(
                f"{image.url} would come over plain HTTP, and nothing says what it must be",
                "anybody in between could send something else",
                "put #sha256:DIGEST behind it, or use https://",
            )
        begun = time.monotonic()
        log.info("image.fetching", image=image.url)
        async with (
            self.cache.receive(image.url, self.settings.largest) as incoming,
            self.web.send("GET", image.url) as response,
        ):
            if response.status in (401, 403):
                said = f"it answered {response.status}"
                raise failures.unauthorized(image.url, server, said, with_credentials=False)
            if response.status in (404, 410):
                raise failures.not_found(image.url, f"{server} answered {response.status}", "look at the address")
            if response.status != 200:
                raise failures.unreachable(server, f"it answered {response.status}", "try again later")
            async for piece in response.content.iter_chunked(PIECE):
                incoming.write(piece)
            if image.digest is not None and incoming.digest != image.digest:
                raise failures.mismatch(
                    image.url, f"sha256:{image.digest}", f"sha256:{incoming.digest}", "correct the digest, or the file"
                )
            return await self._keep(incoming, image.url, server, begun)

    # -- registries

    async def _pull(self, image: RegistryImage) -> Path:
        if image.digest is None and image.selector == "latest" and not self.settings.allow_latest:
            raise failures.not_allowed(
                f"{image} has the tag `latest`, which this host does not take",
                "it may mean something else tomorrow, and on every host",
                "name a version or a digest, or start hosts with --allow-latest",
            )
        begun = time.monotonic()
        registry = await self.registry(image)
        layer = await registry.layer()
        cached = await self.cache.find(layer.hex)
        if cached is not None:
            return cached
        if layer.size > self.settings.largest:
            raise failures.too_large(str(image), self.settings.largest)
        log.info("image.fetching", image=str(image), bytes=layer.size)
        async with self.cache.receive(str(image), self.settings.largest) as incoming:
            await registry.download(layer, incoming)
            path = await self._keep(incoming, str(image), registry.server, begun)
        for body in registry.seen.values():
            async with self.cache.receive(str(image), self.settings.largest) as manifest:
                manifest.write(body)
                await self.cache.keep(manifest)
        return path

    async def registry(self, image: RegistryImage) -> Registry:
        """A client for this image, with our credentials."""
        return Registry(self.web, image, await self.credentials.of(image.registry), self._manifest)

    async def _manifest(self, digest: str) -> bytes | None:
        """A manifest that was fetched before: what is named by digest needs no registry the second time."""
        path = await self.cache.find(digest)
        return None if path is None else await asyncio.to_thread(path.read_bytes)

    async def _keep(self, incoming: Incoming, what: str, origin: str, begun: float) -> Path:
        """Raises BadInput when it is not Wasm."""
        incoming.close()
        with incoming.path.open("rb") as file:
            start = file.read(8)
        if not start.startswith(media.MAGIC):
            raise failures.not_wasm(what, f"it begins with {start!r}" if start else "it is empty")
        path = await self.cache.keep(incoming)
        log.info(
            "image.fetched",
            image=what,
            origin=origin,
            bytes=incoming.size,
            digest=incoming.digest,
            seconds=round(time.monotonic() - begun, 3),
        )
        return path

    async def close(self) -> None:
        """End what is under way, and the connections."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.web.close()
        if self._cache is not None:
            self._cache.close()


def component_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """The Wasm in a file, from its text form where it is that; what cannot be read as text stays as it is.

    Raises OSError, and BadInput for more than `largest` bytes.
    """
    with path.open("rb") as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise failures.too_large(str(path), largest)
    if data.startswith(media.MAGIC):
        return data
    try:
        return bytes(wat2wasm(data.decode()))
    except (WasmtimeError, UnicodeDecodeError):
        return data


def component_digest(path: Path, largest: int = LARGEST) -> str:
    """The sha256 by which a component in this file is known. Raises OSError and BadInput."""
    return hashlib.sha256(component_bytes(path, largest)).hexdigest()
