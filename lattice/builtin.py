"""The providers that hosts bring along: what they are called, and which references mean one of them.

| reference                             | what it is                                            |
|---------------------------------------|-------------------------------------------------------|
| builtin:http-server                   | one of ours, by name                                  |
| wasmcloud+builtin://http-server       | the same, as wasmCloud writes it                      |
| ghcr.io/wasmcloud/http-server:0.28.0  | wasmCloud's own image, answered by ours of that kind  |
"""

from __future__ import annotations

import re

NAMES = (
    "blobstore-fs",
    "blobstore-nats",
    "cron",
    "http-client",
    "http-server",
    "keyvalue-memory",
    "keyvalue-nats",
    "keyvalue-redis",
    "messaging-nats",
    "sqldb-postgres",
    "sqldb-sqlite",
)

ALIASES = {
    "cron-scheduler": "cron",
    "httpclient": "http-client",
    "httpserver": "http-server",
    "kv-memory": "keyvalue-memory",
    "kv-nats": "keyvalue-nats",
    "kv-redis": "keyvalue-redis",
    "kvredis": "keyvalue-redis",
}

_BY_NAME = re.compile(r"^(?:wasmcloud\+builtin://|builtin:(?://)?)(?P<name>.*)$")
_IMAGE = re.compile(r"^(?:oci://)?(?:ghcr\.io/wasmcloud|wasmcloud\.azurecr\.io)/(?P<name>[a-z0-9-]+)(?:[:@].*)?$")


def name_in(reference: str) -> str | None:
    """Which of ours it asks for, be there one or not; None for any other reference."""
    match = _BY_NAME.match(reference) or _IMAGE.match(reference)
    return None if match is None else ALIASES.get(match["name"], match["name"])


def image_name(reference: str) -> str | None:
    """What wasmCloud calls the image, if it is one of its own."""
    match = _IMAGE.match(reference)
    return None if match is None else match["name"]
