"""A server's certificate, which may be renewed while it serves."""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

from lattice import BadInput, Finding

log = structlog.get_logger("providers.http")


class Certificate:
    """The TLS context of a certificate and its key. Call `refresh` every few seconds."""

    def __init__(self, chain: Path, key: Path, *, http2: bool = False) -> None:
        """Raises BadInput when the files are not a certificate and its key."""
        self.chain = chain
        self.key = key
        self.http2 = http2
        self.context = self._loaded()
        self._seen = self._changed()

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2", "http/1.1"] if self.http2 else ["http/1.1"])
        try:
            context.load_cert_chain(self.chain, self.key)
        except (OSError, ssl.SSLError) as error:
            raise BadInput(Finding("TRL-PRV-007", f"cannot use {self.chain} and its key: {error}")) from error
        return context

    def _changed(self) -> tuple[int, ...]:
        try:
            return tuple(file.stat().st_mtime_ns for file in (self.chain, self.key))
        except OSError:
            return ()

    def refresh(self) -> None:
        """New connections get what the files hold now. Files that do not go together (yet) change nothing."""
        changed = self._changed()
        if changed == self._seen:
            return
        self._seen = changed
        try:
            self._loaded()  # a context that fails half way would be of no use any more
            self.context.load_cert_chain(self.chain, self.key)
        except (BadInput, OSError) as error:
            log.warning("http.certificate_unusable", file=str(self.chain), error=str(error))
        else:
            log.info("http.certificate_renewed", file=str(self.chain))
