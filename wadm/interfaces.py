"""The interfaces that wasmCloud's first-party components and providers have, by namespace and package."""

from __future__ import annotations

from collections.abc import Mapping

KNOWN_INTERFACES: Mapping[str, Mapping[str, frozenset[str]]] = {
    "wasi": {
        "blobstore": frozenset({"blobstore", "container", "types"}),
        "cli": frozenset({"command", "environment", "exit", "run", "stderr", "stdin", "stdout"}),
        "clocks": frozenset({"monotonic-clock", "timezone", "wall-clock"}),
        "config": frozenset({"runtime", "store"}),
        "filesystem": frozenset({"preopens", "types"}),
        "http": frozenset({"incoming-handler", "outgoing-handler", "proxy", "types"}),
        "io": frozenset({"error", "poll", "streams"}),
        "keyvalue": frozenset({"atomics", "batch", "store", "watcher"}),
        "logging": frozenset({"logging"}),
        "messaging": frozenset({"consumer", "handler", "incoming-handler", "producer", "request-reply", "types"}),
        "random": frozenset({"insecure", "insecure-seed", "random"}),
        "sockets": frozenset({"instance-network", "ip-name-lookup", "network", "tcp", "tcp-create-socket", "udp"}),
    },
    "wasmcloud": {
        "bus": frozenset({"error", "lattice"}),
        "cron": frozenset({"scheduler"}),
        "identity": frozenset({"store"}),
        "messaging": frozenset({"consumer", "handler", "incoming-handler", "producer", "request-reply", "types"}),
        "postgres": frozenset({"managed-prepared", "managed-query", "prepared", "query", "types"}),
        "secrets": frozenset({"reveal", "store"}),
        "wadm": frozenset({"client", "handler", "types"}),
    },
}


def example(namespace: str, package: str) -> str:
    """Those of a package, as one writes them."""
    known = KNOWN_INTERFACES.get(namespace, {}).get(package)
    return ", ".join(sorted(known - {"types"})) if known else "..."
