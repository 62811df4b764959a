"""Who a host is: an nkey server id, which clients recognise by its form."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import nkeys

from lattice.names import HostId


def new_host_id() -> HostId:
    """A fresh Ed25519 server key's public half: 56 characters, the first an `N`."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_SERVER)
    public: bytes = nkeys.from_seed(seed).public_key
    return HostId(public.decode())


def own_labels() -> dict[str, str]:
    """The `hostcore.*` labels that every host has, in the words of Rust's targets as v1 hosts use them."""
    machine = platform.machine().lower()
    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)
    family = "windows" if sys.platform == "win32" else "unix"
    return {"hostcore.arch": arch, "hostcore.os": system, "hostcore.osfamily": family}


def own_version() -> str:
    """This distribution's version: semver, since v1 managers drop heartbeats of hosts without one."""
    try:
        return version("trellis-lattice")
    except PackageNotFoundError:
        return "0.0.0"
