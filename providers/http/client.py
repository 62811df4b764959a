"""The HTTP client: actors' own requests, by `wasi:http/outgoing-handler`.

The provider is the target of its links. Configuration has the keys of wasmCloud's http-client, and two of ours; a
link's target_config overrides what the provider's own config says, except that it can only narrow `allow`.

| key                | what it says                                                              | default |
|--------------------|---------------------------------------------------------------------------|---------|
| load_native_certs  | believe the certificate authorities of the operating system               | true    |
| load_webpki_certs  | believe those that Mozilla believes                                       | true    |
| ssl_certs_file     | believe those in this PEM file as well                                    |         |
| allow              | what may be asked, `HOST[:PORT]` (see lattice/allow.py); empty: anything  |         |
| redirects          | how many are followed, each one only where `allow` lets it go             | 0       |
| proxy              | `environment` (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), or a proxy's URL       | none    |
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from lattice import EMPTY, ByteStream, Denied, Value
from lattice.allow import WEB_PORTS, AllowList, allow_list, shown
from lattice.http import OUTGOING, Request, RequestOptions
from providers.http.outgoing import Outgoing, Place, Trust
from providers.http.redirects import redirected
from providers.http.settings import Words
from providers.link import Link, LinkId, serving
from providers.provider import Provider, export
from providers.wit import GUESTS


def _patterns(texts: tuple[str, ...]) -> tuple[str, ...]:
    AllowList.parse(texts, WEB_PORTS)
    return texts


def _proxy(text: str) -> str:
    if text and text != "environment" and not text.startswith(("http://", "https://")):
        raise ValueError("should be `environment` or a URL, such as http://proxy.example:3128")
    return text


Allow = Annotated[Words, AfterValidator(_patterns)]
Proxy = Annotated[str, AfterValidator(_proxy)]


class ClientSettings(BaseModel):
    """The provider's own, for links that say nothing else."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    load_native_certs: bool = True
    load_webpki_certs: bool = True
    ssl_certs_file: Path | None = None
    allow: Allow = ()
    redirects: Annotated[int, Field(ge=0, le=20)] = 0
    proxy: Proxy = ""


class ClientLinkSettings(BaseModel):
    """One link's."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    load_native_certs: bool | None = None
    load_webpki_certs: bool | None = None
    ssl_certs_file: Path | None = None
    allow: Allow = ()
    redirects: Annotated[int, Field(ge=0, le=20)] | None = None
    proxy: Proxy | None = None


class HttpClient(Provider):
    """One pool of connections for each link."""

    wit = (GUESTS, Path(__file__).parent / "http.wit")
    link_config = ClientLinkSettings
    settings_model = ClientSettings

    def __init__(self) -> None:
        self._pools: dict[LinkId, Outgoing] = {}

    async def link_added(self, link: Link[ClientLinkSettings]) -> None:
        pool = self._made(self.settings, link.config)
        await pool.open()
        self._pools[link.id] = pool

    async def link_removed(self, link: Link[ClientLinkSettings]) -> None:
        """Bodies that are still coming may come to their end."""
        pool = self._pools.pop(link.id, None)
        if pool is not None:
            self.spawn(pool.close(), name=f"last responses of {link}")

    async def config_changed(self, config: Any) -> None:
        """All links get the new settings, or, when one cannot, none does."""
        made = {link.id: self._made(self.settings, link.config) for link in self.links.values()}
        for pool in made.values():
            await pool.open()
        old, self._pools = self._pools, made
        for id, pool in old.items():
            self.spawn(pool.close(), name=f"last responses of {id}")

    @export(OUTGOING.key)
    async def handle(self, link: Link[ClientLinkSettings], request: Request, options: RequestOptions | None) -> Value:
        """The response, while its body may still be coming. Raises WitError with an error-code; Denied.

        The last redirect that may be followed, and one that cannot be, is the response.
        """
        call = serving.get()
        trace = EMPTY if call is None else call.trace
        left = self.settings.redirects if link.config.redirects is None else link.config.redirects
        while True:
            place = Place.of(request)
            permit(place, self.settings.allow, f'"allow" of provider "{self.id}"')
            permit(place, link.config.allow, f'"allow" of the link {link.record}')
            response = await self._pools[link.id].send(request, options, trace=trace)
            following = redirected(request, response) if left else None
            if following is None:
                return response
            if isinstance(response["body"], ByteStream):
                response["body"].close()
            request, left = following, left - 1

    @staticmethod
    def _made(own: ClientSettings, link: ClientLinkSettings) -> Outgoing:
        def chosen(key: str) -> Any:
            value = getattr(link, key)
            return getattr(own, key) if value is None else value

        trust = Trust(chosen("load_native_certs"), chosen("load_webpki_certs"), chosen("ssl_certs_file"))
        return Outgoing(trust, proxy=chosen("proxy") or None)


def permit(place: Place, allow: tuple[str, ...], where: str) -> None:
    """Raises Denied when `allow` has patterns, and none is for this place."""
    if allow and not allow_list(allow, WEB_PORTS).allows(place.host, place.port):
        grant = f'"{shown(place.host, place.port)}" in {where}'
        raise Denied(f"the request needs {grant}", grant=grant)
