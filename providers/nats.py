"""What providers on NATS share: configuration keys for a server and a login, and who uses which connection."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lattice import LatticeError
from lattice.nats_transport import NatsOptions, connect
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
        """The connection that a link wants for itself; None when it says nothing that the lattice's own has not."""
        own = (self.client_seed, self.creds_file, self.tls_ca, self.tls_ca_file, self.custom_inbox_prefix)
        if not any((url, domain, *own)):
            return None
        return NatsOptions(
            url=_with_scheme(url) if url else NatsOptions().url,
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
        if options is None:
            if self._given is not None:
                return self._given
            if provider.lattice is None:
                raise LatticeError("there is no lattice here; name a NATS server in the link's configuration")
            return provider.lattice.transport
        async with self._turn:
            if options not in self._open:
                self._open[options] = await connect(options)
            return self._open[options]

    async def close(self) -> None:
        for transport in self._open.values():
            await transport.close()
        self._open.clear()
