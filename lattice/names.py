"""Names: entities on a lattice, and functions of WIT interfaces.

A function is written `namespace:package/interface@version#name`; the version may be missing, and where no `#` is
present the last `.` separates the name (the way wasmCloud users write it). A function of a component's world itself is
`#name`.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NewType

EntityId = NewType("EntityId", str)
HostId = NewType("HostId", str)
LinkName = NewType("LinkName", str)

UNRESOLVED = EntityId("")
"""The target of an import before the link table has looked it up."""

DEFAULT_LINK = LinkName("default")

_WORD = r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
_INTERFACE = re.compile(
    rf"^(?P<namespace>{_WORD}):(?P<package>{_WORD})/(?P<name>{_WORD})(?:@(?P<version>[0-9A-Za-z.+-]+))?$"
)
_ENTITY = re.compile(r"^[A-Za-z0-9_-]{1,128}$")


@dataclass(frozen=True, slots=True)
class Interface:
    """`wasi:keyvalue/store@0.2.0-draft`, taken apart."""

    namespace: str
    package: str
    name: str
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> Interface:
        """Raises ValueError with the expected form when `text` is not an interface name."""
        match = _INTERFACE.match(text)
        if match is None:
            raise ValueError(f"{text!r} is not an interface name; expected namespace:package/interface[@version]")
        return cls(match["namespace"], match["package"], match["name"], match["version"])

    @property
    def key(self) -> str:
        """The name without its version: what links are about."""
        return f"{self.namespace}:{self.package}/{self.name}"

    def __str__(self) -> str:
        return self.key + (f"@{self.version}" if self.version else "")


@dataclass(frozen=True, slots=True)
class Function:
    """One function of one interface. `interface` has no version; `key` is what dispatch tables use."""

    interface: str
    name: str
    version: str | None = field(default=None, compare=False)
    key: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.interface}#{self.name}")

    @classmethod
    def parse(cls, text: str) -> Function:
        """From `ns:pkg/iface[@version]#name`, `ns:pkg/iface[@version].name` or `#name`. Raises ValueError."""
        return _parse_function(text)

    def __str__(self) -> str:
        at = f"@{self.version}" if self.version else ""
        return f"{self.interface}{at}#{self.name}"


@lru_cache(maxsize=4096)
def _parse_function(text: str) -> Function:
    place, sep, name = text.partition("#")
    if not sep:
        slash = text.find("/")
        # dots of the version come before the one that starts the name: `a:b/c@0.2.0.get`
        place, sep, name = text.rpartition(".") if slash >= 0 else ("", "", text)
    if sep == "#" and name and not place:
        return Function("", name)
    if not sep or not name:
        raise ValueError(f"{text!r} is not a function name; expected namespace:package/interface[@version]#name")
    interface = Interface.parse(place)
    return Function(interface.key, name, interface.version)


def entity_id(text: str) -> EntityId:
    """`text` as an entity id: letters, digits, `_` and `-`, one NATS subject token. Raises ValueError."""
    if not _ENTITY.match(text):
        raise ValueError(f"{text!r} is not an id: use letters, digits, '-' and '_' (128 at most)")
    return EntityId(text)


_ADJECTIVES = [
    "amber",
    "bold",
    "brisk",
    "calm",
    "clever",
    "crisp",
    "deep",
    "early",
    "fair",
    "fresh",
    "gentle",
    "glad",
    "golden",
    "green",
    "keen",
    "kind",
    "late",
    "light",
    "lively",
    "lucky",
    "mellow",
    "merry",
    "misty",
    "noble",
    "patient",
    "plain",
    "proud",
    "quick",
    "quiet",
    "rapid",
    "ready",
    "silent",
    "steady",
    "still",
    "sunny",
    "swift",
    "tidy",
    "warm",
    "wild",
    "wise",
]
_NOUNS = [
    "acorn",
    "arbor",
    "birch",
    "bloom",
    "branch",
    "brook",
    "cedar",
    "clover",
    "creek",
    "dew",
    "elm",
    "ember",
    "fern",
    "field",
    "forest",
    "glade",
    "grove",
    "harbor",
    "hazel",
    "heath",
    "hill",
    "ivy",
    "juniper",
    "lake",
    "larch",
    "leaf",
    "maple",
    "meadow",
    "moss",
    "oak",
    "orchard",
    "pine",
    "pond",
    "rain",
    "reed",
    "river",
    "rowan",
    "sage",
    "spruce",
    "stone",
    "thicket",
    "trellis",
    "vine",
    "willow",
]


def friendly_name() -> str:
    """A name for a host that people can say aloud: `calm-forest-1234`."""
    return f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}-{secrets.randbelow(9000) + 1000}"
