"""The guest-facing interfaces: WASI 0.2, and what stands beside it (key-value, blob store, configuration, logging...).

One module per WIT package, in the same words; importing this package registers them all (see `actors.host_api`).
Interfaces are served by name: a guest built against any 0.2.x finds them.
"""

from actors.wasi import (
    blobstore,
    bus,
    cli,
    clocks,
    config,
    filesystem,
    http,
    http_incoming,
    http_outgoing,
    io,
    keyvalue,
    logging,
    random,
    secrets,
    sockets,
)
from actors.wasi.cli import Exited

__all__ = [
    "Exited",
    "blobstore",
    "bus",
    "cli",
    "clocks",
    "config",
    "filesystem",
    "http",
    "http_incoming",
    "http_outgoing",
    "io",
    "keyvalue",
    "logging",
    "random",
    "secrets",
    "sockets",
]
