"""What an actor may reach beyond its links. Nothing, unless it is written here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Preopen:
    """A folder of the host that the guest finds under `guest`, and nothing above it."""

    host: Path
    guest: str
    writable: bool = False

    @classmethod
    def parse(cls, text: str) -> Preopen:
        """From `HOST::GUEST[:ro|:rw]`; read-only unless it says `rw`. Raises ValueError with the expected form."""
        host, sep, rest = text.partition("::")
        guest, _, mode = rest.partition(":")
        if not (sep and host and guest) or mode not in ("", "ro", "rw"):
            raise ValueError(
                f"{text!r} is not a folder to grant; expected HOST::GUEST, HOST::GUEST:ro or HOST::GUEST:rw"
            )
        return cls(Path(host), guest, mode == "rw")


@dataclass(frozen=True, slots=True)
class Grants:
    """`network` holds `HOST:PORT` patterns for sockets and name lookup: a name, `*.name`, an address or a network in
    CIDR form, or `*`; the port a number or `*`. `http` holds the same for outgoing requests (authorities), served by
    the host itself when no link does."""

    directories: tuple[Preopen, ...] = ()
    network: tuple[str, ...] = ()
    http: tuple[str, ...] = ()


NOTHING = Grants()
