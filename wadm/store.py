"""Manifests by version, in the JetStream bucket that wadm uses and in its shape; our own notes in one beside it.

`wadm_manifests`: `{lattice}-{app}` holds every version and which one is deployed, `{lattice}` the list of names.
`trellis_manager`: `{lattice}.override.{app}` holds recorded instance counts, `{lattice}.put.{app}` the links and
configurations that were put for an application (they carry no owner on the lattice), `{lattice}.kept.{app}` the
manifest of an undeployed application of which others use components, `{lattice}.proven.{app}` the manifest of the
deployed one that was the last to be ready, `{lattice}.history.{app}` when which version was deployed, and
`{lattice}.lease` which manager acts.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from lattice import LatticeError, read_json
from lattice.links import LinkDefinition
from lattice.transport import Bucket, Transport, swap
from wadm.desired import Leftovers
from wadm.manifest import DESCRIPTION, VERSION, Manifest

MANIFESTS = "wadm_manifests"
NOTES = "trellis_manager"
REMEMBERED = 100
"""Deployments of one application."""

_ATTEMPTS = 20
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class StorageError(LatticeError):
    """The store could not be changed: too many others do, or what is there cannot be read."""

    code = "storage"


@dataclass(frozen=True, slots=True)
class Stored:
    """All versions of one application, oldest first."""

    manifests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    deployed_version: str | None = None

    @property
    def latest(self) -> str:
        return next(reversed(list(self.manifests)), "")

    def manifest(self, version: str | None = None) -> Manifest | None:
        """The version asked for (the latest without one), as a model; None when it is missing or not readable."""
        data = self.manifests.get(version or self.latest)
        if data is None:
            return None
        try:
            return Manifest.model_validate(data)
        except ValidationError:
            return None

    @property
    def description(self) -> str | None:
        """Of the latest version."""
        return description_of(self.manifests.get(self.latest, {}))

    @property
    def deployed(self) -> Manifest | None:
        return None if self.deployed_version is None else self.manifest(self.deployed_version)

    def encode(self) -> bytes:
        return json.dumps({"manifests": self.manifests, "deployed_version": self.deployed_version}).encode()


@dataclass(frozen=True, slots=True)
class Overrides:
    """Instance counts by component, recorded on one version."""

    version: str
    instances: Mapping[str, int]


class Store:
    """Every change reads, decides and writes against the revision it read, again when somebody was quicker."""

    def __init__(self, lattice: str, manifests: Bucket, notes: Bucket) -> None:
        self.lattice = lattice
        self.manifests = manifests
        self.notes = notes

    @classmethod
    async def open(cls, transport: Transport, lattice: str) -> Store:
        return cls(lattice, await transport.bucket(MANIFESTS), await transport.bucket(NOTES))

    # -- manifests

    def app_of(self, key: str, value: bytes | None) -> tuple[str, Stored | None] | None:
        """(application, its versions) of one entry; None for what is not an application of this lattice."""
        prefix = f"{self.lattice}-"
        if not key.startswith(prefix):
            return None
        name = key.removeprefix(prefix)
        if value is None:
            return name, None
        stored = decode(value)
        if stored is None:
            return None
        for data in stored.manifests.values():  # `a-b` is app `b` of lattice `a`, or the list of lattice `a-b`
            metadata = data.get("metadata")
            if not isinstance(metadata, dict) or metadata.get("name") != name:
                return None
        return name, stored

    async def get(self, name: str) -> Stored | None:
        entry = await self.manifests.get(f"{self.lattice}-{name}")
        if entry is None or entry.value is None:
            return None
        stored = decode(entry.value)
        if stored is None:
            raise StorageError(f"what is stored for application {name} cannot be read")
        return stored

    async def all(self) -> dict[str, Stored]:
        """Every application, by name."""
        found: dict[str, Stored] = {}
        for key in sorted(await self.manifests.keys()):
            entry = await self.manifests.get(key)
            known = self.app_of(key, entry.value) if entry is not None else None
            if known is not None and known[1] is not None:
                found[known[0]] = known[1]
        return found

    async def change(self, name: str, decide: Callable[[Stored | None], Stored | None]) -> Stored | None:
        """Replace an application's versions with what `decide` makes of them; None deletes the entry.

        `decide` may run several times, and may raise to change nothing. Returning the very same object writes it
        again, which tells every manager to look anew.
        """
        key = f"{self.lattice}-{name}"
        for _ in range(_ATTEMPTS):
            entry = await self.manifests.get(key)
            before = decode(entry.value) if entry is not None and entry.value is not None else None
            after = decide(before)
            if after is None:
                if before is not None:
                    await self.manifests.delete(key)
            elif not await swap(self.manifests, key, entry, after.encode()):
                continue
            if (before is None) != (after is None):
                await self._list(name, after is not None)
            return after
        raise StorageError(f"application {name} is being changed by too many others")

    async def _list(self, name: str, there: bool) -> None:
        for _ in range(_ATTEMPTS):
            entry = await self.manifests.get(self.lattice)
            names: set[str] = set()
            if entry is not None and entry.value is not None:
                try:
                    names = {str(n) for n in read_json(entry.value)}
                except (ValueError, TypeError):
                    names = set()
            after = json.dumps(sorted(names | {name} if there else names - {name})).encode()
            if await swap(self.manifests, self.lattice, entry, after):
                return
        raise StorageError("the list of applications is being changed by too many others")

    # -- our own notes

    def note_of(self, key: str) -> tuple[str, str] | None:
        """(kind, application) of a note's key: kind is `override`, `put`, `kept` or `proven`."""
        for kind in ("override", "put", "kept", "proven"):
            prefix = f"{self.lattice}.{kind}."
            if key.startswith(prefix):
                return kind, key.removeprefix(prefix)
        return None

    async def overrides(self, app: str) -> Overrides | None:
        entry = await self.notes.get(f"{self.lattice}.override.{app}")
        return None if entry is None or entry.value is None else decode_overrides(entry.value)

    async def override(self, app: str, version: str, component: str, instances: int | None) -> Overrides:
        """Record (or with None remove) a count on `version`; counts recorded on another version are dropped."""
        key = f"{self.lattice}.override.{app}"
        for _ in range(_ATTEMPTS):
            entry = await self.notes.get(key)
            old = decode_overrides(entry.value) if entry is not None and entry.value is not None else None
            counts = dict(old.instances) if old is not None and old.version == version else {}
            counts.pop(component, None)
            if instances is not None:
                counts[component] = instances
            data = json.dumps({"version": version, "instances": counts}).encode()
            if await swap(self.notes, key, entry, data):
                return Overrides(version, counts)
        raise StorageError(f"the overrides of {app} are being changed by too many others")

    async def drop_overrides(self, app: str) -> None:
        await self.notes.delete(f"{self.lattice}.override.{app}")

    async def deployments(self, app: str) -> list[dict[str, Any]]:
        """Each deployment that is remembered, oldest first: `version`, `at` (UTC), `note`."""
        entry = await self.notes.get(f"{self.lattice}.history.{app}")
        return [] if entry is None or entry.value is None else decode_deployments(entry.value)

    async def note_deployed(self, app: str, version: str, at: str, note: str) -> None:
        """Remember a deployment; of more than REMEMBERED the oldest are forgotten."""
        key = f"{self.lattice}.history.{app}"
        for _ in range(_ATTEMPTS):
            entry = await self.notes.get(key)
            known = decode_deployments(entry.value) if entry is not None and entry.value is not None else []
            data = json.dumps([*known, {"version": version, "at": at, "note": note}][-REMEMBERED:]).encode()
            if await swap(self.notes, key, entry, data):
                return
        raise StorageError(f"the history of {app} is being changed by too many others")

    async def forget_deployments(self, app: str) -> None:
        await self.notes.delete(f"{self.lattice}.history.{app}")

    async def note_kept(self, app: str, manifest: Mapping[str, Any] | None) -> None:
        """Remember what is undeployed while others use its components; None forgets it."""
        await self._note_manifest(f"{self.lattice}.kept.{app}", manifest)

    async def note_proven(self, app: str, manifest: Mapping[str, Any] | None) -> None:
        """Remember what was ready; None forgets it."""
        await self._note_manifest(f"{self.lattice}.proven.{app}", manifest)

    async def _note_manifest(self, key: str, manifest: Mapping[str, Any] | None) -> None:
        if manifest is None:
            await self.notes.delete(key)
        else:
            await self.notes.put(key, json.dumps(manifest).encode())

    async def note_put(self, app: str, leftovers: Leftovers) -> None:
        """Remember what was put for `app`; nothing at all forgets it."""
        key = f"{self.lattice}.put.{app}"
        if not leftovers.links and not leftovers.configs:
            await self.notes.delete(key)
            return
        links = sorted((link.model_dump(mode="json") for link in leftovers.links), key=json.dumps)
        await self.notes.put(key, json.dumps({"links": links, "configs": sorted(leftovers.configs)}).encode())


def description_of(data: Mapping[str, Any]) -> str | None:
    """What a stored manifest says that it is."""
    metadata = data.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    found = annotations.get(DESCRIPTION) if isinstance(annotations, dict) else None
    return found if isinstance(found, str) else None


def with_version(data: Mapping[str, Any], version: str) -> dict[str, Any]:
    """A copy of a manifest with that version annotation."""
    metadata = dict(data["metadata"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), VERSION: version}
    return {**data, "metadata": metadata}


def added(stored: Stored | None, version: str, data: Mapping[str, Any]) -> Stored:
    old = stored or Stored()
    return replace(old, manifests={**old.manifests, version: data})


def without(stored: Stored, version: str) -> Stored | None:
    """Without one version; None when it was the last. Deleting the deployed one undeploys."""
    left = {v: m for v, m in stored.manifests.items() if v != version}
    if not left:
        return None
    return Stored(left, None if stored.deployed_version == version else stored.deployed_version)


def decode(value: bytes) -> Stored | None:
    try:
        data = read_json(value)
        manifests = data["manifests"]
        deployed = data.get("deployed_version")
        if not isinstance(manifests, dict) or not all(isinstance(m, dict) for m in manifests.values()):
            return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return Stored(manifests, deployed if isinstance(deployed, str) else None)


def decode_overrides(value: bytes) -> Overrides | None:
    try:
        data = read_json(value)
        return Overrides(str(data["version"]), {str(k): int(v) for k, v in data["instances"].items()})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def decode_deployments(value: bytes) -> list[dict[str, Any]]:
    try:
        return [
            {"version": str(one["version"]), "at": str(one["at"]), "note": str(one.get("note") or "")}
            for one in read_json(value)
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


def decode_manifest(value: bytes) -> Manifest | None:
    try:
        return Manifest.model_validate_json(value)
    except ValidationError:
        return None


def decode_put(value: bytes) -> Leftovers:
    try:
        data = read_json(value)
        links = frozenset(LinkDefinition.model_validate(link) for link in data["links"])
        return Leftovers(links, frozenset(str(name) for name in data["configs"]))
    except (ValueError, TypeError, KeyError):
        return Leftovers()


def new_version() -> str:
    """A ULID: sorts by time, unique enough to be nobody else's."""
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))
