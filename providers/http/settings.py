"""The HTTP server's configuration, with the keys of wasmCloud's http-server provider."""

from __future__ import annotations

import base64
import binascii
import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from providers.http.certificate import Certificate

DEFAULT_ADDRESS = "0.0.0.0:8000"
DEFAULT_TIMEOUT_MS = 30_000


def _split(address: str) -> str:
    host, sep, port = address.rpartition(":")
    if not sep:
        host, port = "", address
    if not port.isdigit() or int(port) > 65535:
        raise ValueError("should be host:port, such as 127.0.0.1:8080")
    host = host.strip("[]") or "0.0.0.0"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


Address = Annotated[str, BeforeValidator(_split)]
"""`host:port`, written one way: `:8080` and `8080` are every IPv4 address of the machine."""


def host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _words(value: Any) -> Any:
    """A JSON array of strings, as wasmCloud has it, or words separated by commas."""
    if isinstance(value, str):
        text = value.strip()
        return json.loads(text) if text.startswith("[") else [w.strip() for w in text.split(",") if w.strip()]
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


class Tls(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    tls_cert_file: Path | None = None
    tls_priv_key_file: Path | None = None
    http2: bool = False
    """Offer HTTP/2: by TLS to clients that ask for it, else to those that begin with it. Others go on as before."""

    @model_validator(mode="after")
    def _both(self) -> Tls:
        if (self.tls_cert_file is None) != (self.tls_priv_key_file is None):
            raise ValueError("tls_cert_file and tls_priv_key_file belong together; one is missing")
        if self.http2 and importlib.util.find_spec("h2") is None:
            raise ValueError("http2 needs the Python package h2: pip install 'trellis-lattice[http2]'")
        return self

    def tls(self) -> tuple[Path | None, Path | None, bool]:
        """What a listener cannot change while it listens."""
        return self.tls_cert_file, self.tls_priv_key_file, self.http2

    def certificate(self) -> Certificate | None:
        """None: plain HTTP. Raises BadInput when the files are not a certificate and its key."""
        if self.tls_cert_file is None or self.tls_priv_key_file is None:
            return None
        return Certificate(self.tls_cert_file, self.tls_priv_key_file, http2=self.http2)


class ServerSettings(Tls):
    """The provider's own: how requests find their link. `tls_*` is for the shared listener of `path` and `host`."""

    default_address: Address = DEFAULT_ADDRESS
    routing_mode: Literal["address", "path", "host"] = "address"
    header: str = "host"
    timeout_ms: Annotated[int, Field(gt=0)] = DEFAULT_TIMEOUT_MS
    """For links that set none."""
    access_log: bool = False
    """Log every request at level `info`; otherwise at `debug`."""
    forwarded_headers: Literal["pass", "set", "append"] = "pass"
    """What becomes of X-Forwarded-For and its like, see forwarded.py."""


class RouteSettings(Tls):
    """One link's: where its requests arrive, and what is done to them on the way."""

    address: Address | None = None
    path: str | None = None
    host: str | None = None
    timeout_ms: int | None = Field(None, gt=0)
    max_body_bytes: int | None = Field(None, ge=0)
    """Of a request; one with more is answered 413."""
    readonly_mode: bool = False
    cache_control: str | None = Field(None, pattern=r"^[^\r\n]*$")
    disable_keepalive: bool = False
    cors_allowed_origins: Words = ()
    cors_allowed_headers: Words = ()
    cors_allowed_methods: Words = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS")
    cors_exposed_headers: Words = ()
    cors_max_age_secs: int = Field(300, ge=0)
    config_json: str | None = None
    config_b64: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, values: Any) -> Any:
        """`config_json` and `config_b64` hold wasmCloud's settings object; what is set beside them wins."""
        if not isinstance(values, dict):
            return values
        text = values.get("config_json")
        if values.get("config_b64"):
            try:
                text = base64.b64decode(values["config_b64"], validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise ValueError("config_b64 is not base64 of JSON") from None
        if not text:
            return values
        try:
            whole = json.loads(text)
        except ValueError:
            raise ValueError("config_json is not JSON") from None
        if not isinstance(whole, dict):
            raise ValueError("config_json is not a JSON object")
        flat = {k: v for k, v in whole.items() if k not in ("cors", "tls") and v is not None}
        flat |= {f"cors_{k}": v for k, v in (whole.get("cors") or {}).items() if v is not None}
        tls = whole.get("tls") or {}
        flat |= {f"tls_{k}": tls[k] for k in ("cert_file", "priv_key_file") if tls.get(k)}
        return flat | values
