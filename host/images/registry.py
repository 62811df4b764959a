"""A client of one OCI registry: the distribution protocol, as far as components need it, both ways."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

import structlog

from host.images import failures, media
from host.images.cache import Incoming
from host.images.credentials import Credential
from host.images.reference import DOCKER_HUB, RegistryImage
from host.images.web import PIECE, Web
from lattice import BadInput

if TYPE_CHECKING:
    from aiohttp import ClientResponse

log = structlog.get_logger("host")

MANIFEST_BYTES = 4 * 1024**2
"""The largest manifest that registries must take."""

ANSWER_BYTES = 1024**2
CHUNK = 8 * 1024**2
"""Bytes of an upload that go in one request."""

_HUB_SERVER = "registry-1.docker.io"
_PARAMETER = re.compile(r'([A-Za-z_]+)=(?:"([^"]*)"|([^",\s]+))')


class Registry:
    """One registry, for as long as one image takes. Every method raises BadInput for whatever goes wrong."""

    def __init__(
        self,
        web: Web,
        image: RegistryImage,
        credential: Credential | None = None,
        known: Callable[[str], Awaitable[bytes | None]] | None = None,
    ) -> None:
        """`known` gives manifests that were seen before, by their sha256; `seen` has those of this time."""
        self._web = web
        self._image = image
        self._credential = credential
        self.server = _HUB_SERVER if image.registry == DOCKER_HUB else image.registry
        self._base = f"{web.scheme(self.server)}://{self.server}/v2/{image.repository}/"
        self._known = known
        self.seen: dict[str, bytes] = {}
        self._authorization = f"Bearer {credential.bearer}" if credential and credential.bearer else ""

    # -- pulling

    async def manifest(self, selector: str) -> tuple[str, dict[str, Any], str]:
        """(its sha256, the manifest, its content type). `selector` is a tag, or a digest that is then verified."""
        what = f"{self._image.registry}/{self._image.repository}"
        what += f"@{selector}" if selector.startswith("sha256:") else f":{selector}"
        by_digest = selector.startswith("sha256:")
        body = await self._known(selector.removeprefix("sha256:")) if self._known and by_digest else None
        content_type = promised = ""
        if body is None:
            async with self._ask("GET", f"manifests/{selector}", {"Accept": media.ACCEPTED}, what=what) as response:
                body = await _bounded(response, MANIFEST_BYTES, self.server)
                content_type = response.content_type
                promised = response.headers.get("Docker-Content-Digest", "")
        digest = hashlib.sha256(body).hexdigest()
        wanted = selector if by_digest else promised
        if wanted.startswith("sha256:") and wanted != f"sha256:{digest}":
            raise failures.mismatch(f"the manifest of {what}", wanted, f"sha256:{digest}", "do not use this registry")
        self.seen[digest] = body
        try:
            data = json.loads(body)
        except ValueError as error:
            raise failures.not_wasm(what, "its manifest is not JSON") from error
        if not isinstance(data, dict):
            raise failures.not_wasm(what, "its manifest is not a JSON object")
        return digest, data, content_type

    async def layer(self) -> media.Descriptor:
        """Where the component of this image is: through an index where there is one."""
        what = str(self._image)
        _, data, kind = await self.manifest(self._image.selector)
        if media.is_index(data, kind):
            chosen = media.choose(media.read(media.ImageIndex, data, what), what)
            _, data, kind = await self.manifest(chosen.digest)
            if media.is_index(data, kind):
                raise failures.not_wasm(what, "it is an index of indexes")
        return media.component_layer(media.read(media.ImageManifest, data, what), what)

    async def media_types(self) -> frozenset[str]:
        """Of the image's config and layers; of an index, those of its first image."""
        what = str(self._image)
        _, data, kind = await self.manifest(self._image.selector)
        if media.is_index(data, kind):
            for first in media.read(media.ImageIndex, data, what).manifests[:1]:
                _, data, _ = await self.manifest(first.digest)
        manifest = media.read(media.ImageManifest, data, what)
        return frozenset(part.media_type for part in (manifest.config, *manifest.layers))

    async def tags(self) -> list[str]:
        """Those of the repository, as far as the registry tells."""
        async with self._ask("GET", "tags/list", missing=True) as response:
            try:
                found = json.loads(await _bounded(response, ANSWER_BYTES, self.server))["tags"]
                return [str(tag) for tag in found]
            except (ValueError, LookupError, TypeError):
                return []

    async def download(self, layer: media.Descriptor, into: Incoming) -> None:
        """The layer's bytes; verified."""
        what = f"the component of {self._image}"
        async with self._ask("GET", f"blobs/{layer.digest}", what=what) as response:
            async for piece in response.content.iter_chunked(PIECE):
                into.write(piece)
        if into.digest != layer.hex:
            got = f"sha256:{into.digest} ({into.size} of {layer.size} bytes)"
            raise failures.mismatch(what, layer.digest, got, "try again; if it stays so, push it again")

    # -- pushing

    async def has(self, digest: str) -> bool:
        """Whether the repository holds this blob (`sha256:...`)."""
        async with self._ask("HEAD", f"blobs/{digest}", push=True, missing=True) as response:
            return response.status == 200

    async def upload(self, data: bytes, progress: Callable[[int], None] = lambda _: None) -> bool:
        """Put a blob there; False when it is there already. `progress` is told how many bytes the registry has."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if await self.has(digest):
            return False
        async with self._ask("POST", "blobs/uploads/", push=True, data=b"") as response:
            where = self._location(response)
            chunk = max(CHUNK, _number(response.headers.get("OCI-Chunk-Min-Length")))
        if len(data) > chunk:
            for at in range(0, len(data), chunk):
                part = data[at : at + chunk]
                headers = {
                    "Content-Type": "application/octet-stream",
                    "Content-Range": f"{at}-{at + len(part) - 1}",
                }
                async with self._ask("PATCH", where, headers, push=True, data=part) as response:
                    where = self._location(response)
                progress(at + len(part))
            data = b""
        where += ("&" if urlsplit(where).query else "?") + urlencode({"digest": digest})
        headers = {"Content-Type": "application/octet-stream"}
        async with self._ask("PUT", where, headers, push=True, data=data):
            pass
        if not await self.has(digest):
            raise failures.unreachable(self.server, f"it took the blob {digest}, and does not have it")
        return True

    async def put_manifest(self, body: bytes, kind: str) -> str:
        """Put the manifest under the image's tag, and look whether it is there; its digest (`sha256:...`)."""
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        selector = self._image.tag or digest
        async with self._ask(
            "PUT", f"manifests/{selector}", {"Content-Type": kind}, push=True, data=body, what=str(self._image)
        ):
            pass
        found, _, _ = await self.manifest(selector)
        if f"sha256:{found}" != digest:
            raise failures.mismatch(f"the manifest of {self._image}", digest, f"sha256:{found}", "push it again")
        return digest

    def _location(self, response: ClientResponse) -> str:
        where = response.headers.get("Location")
        if not where:
            raise failures.unreachable(self.server, f"it answered {response.status} without saying where to upload")
        there = urljoin(str(response.url), where)
        if urlsplit(there).scheme != "https" and not self._web.may_be_plain(urlsplit(there).netloc):
            raise failures.unreachable(self.server, "it wants the upload over plain HTTP")
        return there

    # -- asking

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        where: str,
        headers: dict[str, str] | None = None,
        *,
        data: bytes | None = None,
        push: bool = False,
        missing: bool = False,
        what: str = "",
    ) -> AsyncIterator[ClientResponse]:
        """A request that succeeded (or, with `missing`, found nothing), with a token where the registry wants one."""
        url = urljoin(self._base, where)
        what = what or str(self._image)
        ours = (urlsplit(url).scheme, urlsplit(url).netloc) == (urlsplit(self._base).scheme, self.server)
        for attempt in (1, 2):
            sent = dict(headers or {})
            if self._authorization and ours:
                sent["Authorization"] = self._authorization
            async with self._web.send(method, url, headers=sent, data=data) as response:
                if response.status != 401 or attempt == 2 or not ours:
                    if not 200 <= response.status < 300 and not (missing and response.status == 404):
                        raise await self._refused(response, method, what, push)
                    yield response
                    return
                challenges = response.headers.getall("WWW-Authenticate", [])
            self._authorization = await self._answer(challenges, what, push)

    async def _answer(self, challenges: list[str], what: str, push: bool) -> str:
        """The `Authorization` that a challenge asks for."""
        credential = self._credential
        for challenge in challenges:
            scheme, _, rest = challenge.strip().partition(" ")
            if scheme.lower() == "bearer":
                parameters = {key.lower(): quoted or plain for key, quoted, plain in _PARAMETER.findall(rest)}
                return await self._token(parameters, what, push)
            if scheme.lower() == "basic" and credential is not None and credential.basic:
                return credential.basic
        raise failures.unauthorized(
            what, self._image.registry, "it asks who we are", with_credentials=credential is not None
        )

    async def _token(self, challenge: dict[str, str], what: str, push: bool) -> str:
        realm = challenge.get("realm", "")
        at = urlsplit(realm)
        plain = at.scheme == "http" and self._base.startswith("http://")
        if not (at.scheme == "https" or plain) or not at.hostname:
            raise failures.unreachable(self.server, f"it sends us for a token to {realm!r}, which is no safe place")
        actions = "pull,push" if push else "pull"
        asked = {"scope": f"repository:{self._image.repository}:{actions}"}
        if challenge.get("service"):
            asked["service"] = challenge["service"]
        credential = self._credential
        headers: dict[str, str] = {}
        if credential is not None and credential.identity:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credential.identity,
                "client_id": "trellis",
                **asked,
            }
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            sending = self._web.send("POST", realm, headers=headers, data=urlencode(form).encode())
        else:
            if credential is not None and credential.basic:
                headers["Authorization"] = credential.basic
            url = realm + ("&" if at.query else "?") + urlencode(asked)
            sending = self._web.send("GET", url, headers=headers)
        async with sending as response:
            if response.status in (400, 401, 403):
                raise failures.unauthorized(
                    what,
                    self._image.registry,
                    f"its token service {at.netloc} answered {response.status}",
                    with_credentials=credential is not None,
                )
            body = await _bounded(response, ANSWER_BYTES, at.netloc)
            status = response.status
        try:
            data = json.loads(body)
            token = data.get("token") or data.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if status != 200 or not isinstance(token, str) or not token.isprintable():
            raise failures.unreachable(at.netloc, f"asked for a token, it answered {status} without one")
        return f"Bearer {token}"

    async def _refused(self, response: ClientResponse, method: str, what: str, push: bool) -> BadInput:
        said = await _complaint(response, self.server)
        if response.status in (401, 403):
            return failures.unauthorized(
                what, self._image.registry, said, with_credentials=self._credential is not None
            )
        if response.status == 404 and not push:
            return failures.not_found(what, said, await self._instead())
        if response.status < 400 or response.status == 429 or response.status >= 500:
            return failures.unreachable(self.server, said, "try again later")
        fix = "if it does not know components yet:  trellis push --old-media-types" if method == "PUT" else ""
        return failures.refused(what, self.server, said, fix)

    async def _instead(self) -> str:
        """What to do about a tag that is not there."""
        tag = self._image.tag
        try:
            tags = await self.tags() if tag else []
        except BadInput:
            tags = []
        near = difflib.get_close_matches(tag or "", tags, n=3, cutoff=0.4) or tags[-3:]
        if near:
            return f"take a tag that is there, such as {', '.join(near)}"
        return "look at its name and tag; to put one there:  trellis push"


async def _bounded(response: ClientResponse, most: int, server: str) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(PIECE):
        body += piece
        if len(body) > most:
            raise failures.unreachable(server, f"its answer is longer than {most} bytes")
    return bytes(body)


async def _complaint(response: ClientResponse, server: str) -> str:
    """The registry's own words, where it has some."""
    said = f"{server} answered {response.status}"
    if response.method == "HEAD":
        return said
    try:
        errors = json.loads(await _bounded(response, ANSWER_BYTES, server))["errors"]
        first = errors[0]
        words = f"{first.get('code', '')} {first.get('message', '')}".strip()
    except (ValueError, LookupError, TypeError, AttributeError):
        return said
    return f"{said}: {words[:300]}" if words.isprintable() else said


def _number(text: str | None) -> int:
    return min(int(text), 64 * 1024**2) if text is not None and text.isdecimal() else 0
