"""What providers on NATS share: configuration keys for a server and a login, and who uses which connection."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lattice import LatticeError
from lattice.nats_transport import NatsOptions, NatsTransport, connect
from lattice.transport import Transport
from providers.provider import Provider


class NatsLogin(BaseModel):
    """The part of a link's configuration that says how to log in to a NATS server of its own."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    client_seed: str | None = Field(None, repr=False)
    client_jwt: str | None = Field(None, repr=False)
    creds_file: str | None = None
    """Ours: a NATS credentials file, which holds JWT and seed together."""
    tls_ca: str | None = None
    tls_ca_file: str | None = None
    custom_inbox_prefix: str | None = None

    @model_validator(mode="after")
    def _usable(self) -> NatsLogin:
        if self.client_jwt and not self.client_seed:
            raise ValueError("client_jwt needs client_seed, the seed of its nkey")
        return self

    def connection(self, name: str, url: str | None, *, domain: str | None = None) -> NatsOptions | None:
        """The connection that a link wants for itself; None when the lattice's own will do.

        Its `url` is empty when it is to the lattice's own server.
        """
        if not any((url, domain, self.client_seed, self.creds_file)):
            return None
        return NatsOptions(
            url=_with_scheme(url or ""),
            nkey_seed=self.client_seed,
            jwt=self.client_jwt,
            creds_file=self.creds_file,
            ca_file=self.tls_ca_file,
            ca_pem=self.tls_ca,
            inbox_prefix=self.custom_inbox_prefix,
            domain=domain,
            name=name,
        )


def _with_scheme(urls: str) -> str:
    """wasmCloud writes `host:port`, and several of them with commas between."""
    each = [url.strip() for url in urls.split(",") if url.strip()]
    return ",".join(url if "://" in url else f"nats://{url}" for url in each)


def at_own_server(own: NatsOptions, wanted: NatsOptions) -> NatsOptions:
    """`wanted`, at the server of `own`, and with the login of that where it has none."""
    base = own
    if wanted.nkey_seed or wanted.creds_file:
        base = replace(own, user=None, password=None, token=None, nkey_seed=None, jwt=None, creds_file=None)
    said = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
    return replace(base, **{name: value for name, value in said.items() if value})


class Connections:
    """One connection for all links that want the same; the lattice's own for those that want none."""

    def __init__(self, given: Transport | None = None) -> None:
        self._given = given
        self._open: dict[NatsOptions, Transport] = {}
        self._turn = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._open)

    async def of(self, provider: Provider, options: NatsOptions | None) -> Transport:
        """Raises Unreachable when no server answers there, LatticeError when there is no lattice to use instead."""
        if options is None or not options.url:
            own = self._given if provider.lattice is None or self._given else provider.lattice.transport
            if own is None:
                raise LatticeError("there is no lattice here; name a NATS server in the link's configuration")
            if options is None:
                return own
            if not isinstance(own, NatsTransport):
                raise LatticeError("the lattice has no NATS server; name one in the link's configuration")
            options = at_own_server(own.options, options)
        async with self._turn:
            if options not in self._open:
                self._open[options] = await connect(options)
            return self._open[options]

    async def close(self) -> None:
        for transport in self._open.values():
            await transport.close()
        self._open.clear()
