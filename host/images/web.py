"""HTTP as images are fetched with it: bounded redirects, no credentials to strangers, errors as sentences.

aiohttp is imported with the first request, since most hosts never make one.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import urllib.request
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from host.images import failures

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

REDIRECTS = 5
CONNECT = 10.0
SILENCE = 30.0
"""Seconds to connect, and between two pieces of an answer."""

PIECE = 256 * 1024
_MOVED = {301, 302, 303, 307, 308}


class Web:
    """An HTTP client. `insecure` are the servers (HOST or HOST:PORT) that may be spoken to without TLS."""

    def __init__(self, insecure: Collection[str] = (), ca_file: Path | None = None) -> None:
        self.insecure = frozenset(insecure)
        self._ca_file = ca_file
        self._made: ClientSession | None = None

    def scheme(self, server: str) -> str:
        """How this server is spoken to."""
        return "http" if self.may_be_plain(server) else "https"

    def may_be_plain(self, server: str) -> bool:
        return server in self.insecure or (urlsplit(f"//{server}").hostname or "") in self.insecure

    def _session(self) -> ClientSession:
        if self._made is None:
            from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

            try:
                context = ssl.create_default_context(cafile=self._ca_file)
            except (OSError, ssl.SSLError) as error:
                raise failures.not_allowed(
                    f"the CA file {self._ca_file} cannot be used", str(error), "give a file of PEM certificates"
                ) from error
            self._made = ClientSession(
                connector=TCPConnector(ssl=context, limit=16),
                timeout=ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENCE),
                auto_decompress=False,  # a digest is of the bytes as they are
                cookie_jar=DummyCookieJar(),
                headers={"User-Agent": "trellis", "Accept-Encoding": "identity"},
            )
        return self._made

    @asynccontextmanager
    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, data: bytes | None = None
    ) -> AsyncIterator[ClientResponse]:
        """The answer, whatever its status, after following redirects of GET and HEAD.

        `Authorization` is not sent to another server than the first, and nobody is followed from TLS to plain HTTP.
        Raises BadInput for a server that cannot be reached, also from within the block while the body is read.
        """
        from aiohttp import ClientError
        from yarl import URL

        server = urlsplit(url).netloc
        sent = dict(headers or {})
        session = self._session()
        try:
            for _ in range(REDIRECTS + 1):
                async with session.request(
                    method,
                    URL(url, encoded=True),
                    headers=sent,
                    data=None if data is None else io.BytesIO(data),
                    allow_redirects=False,
                    proxy=_proxy(url),
                ) as response:
                    where = response.headers.get("Location")
                    if response.status not in _MOVED or not where or method not in ("GET", "HEAD"):
                        yield response
                        return
                    url = self._followed(server, url, urljoin(url, where), sent)
        except TimeoutError as error:
            raise failures.unreachable(server, "it did not answer in time") from error
        except (ClientError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            raise failures.unreachable(server, _sentence(error), _way_out(error, server)) from error
        raise failures.unreachable(server, f"it redirects more than {REDIRECTS} times")

    def _followed(self, server: str, before: str, after: str, headers: dict[str, str]) -> str:
        """Check the next address, and take the credentials out of `headers` when it is another server's."""
        old, new = urlsplit(before), urlsplit(after)
        if new.scheme not in ("http", "https") or not new.hostname:
            raise failures.unreachable(server, f"it redirects to {new.scheme}:, which is not the web")
        if old.scheme == "https" and new.scheme == "http" and not self.may_be_plain(new.netloc):
            raise failures.unreachable(server, f"it redirects from TLS to plain HTTP at {new.netloc}")
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            headers.pop("Authorization", None)
        return after

    async def close(self) -> None:
        if self._made is not None:
            await self._made.close()
            self._made = None


def _proxy(url: str) -> str | None:
    """The environment's proxy for this address (`HTTPS_PROXY`, `NO_PROXY`...)."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _sentence(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text.partition("\n")[0][:300]


def _way_out(error: BaseException, server: str) -> str:
    from aiohttp import ClientConnectorCertificateError, ClientConnectorSSLError

    if isinstance(error, ClientConnectorCertificateError):
        return "give the certificate of its CA:  trellis host start --registry-ca FILE"
    if isinstance(error, ClientConnectorSSLError):
        return f"if it speaks plain HTTP:  trellis host start --insecure-registry {server}  (push and pull: --insecure)"
    return "look at its name, and at the network between here and there"
