"""Python as a capability: knows the lattice, not Wasm."""

from providers.link import Link, LinkId, LinkRecord
from providers.provider import Provider, export
from providers.runner import serve
from providers.runtime import Health, Runtime

__all__ = ["Health", "Link", "LinkId", "LinkRecord", "Provider", "Runtime", "export", "serve"]
