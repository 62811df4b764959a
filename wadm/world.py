"""What a manager knows: what was put into the store, what is seen of the lattice, and what was planned of both last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lattice import HostId
from wadm.commands import Key, Pending, link_key, settled
from wadm.desired import Desired, Leftovers, desired_from, together, with_proven
from wadm.keeping import kept_parts, users
from wadm.manifest import Manifest
from wadm.observed import Fact, Observed, Retry, fold
from wadm.plan import Plan
from wadm.reasons import State
from wadm.status import undeployed, wadm_status
from wadm.store import Overrides, Stored


@dataclass(frozen=True, slots=True)
class _Read:
    """What one application wants, and all that this was read from."""

    manifest: Manifest
    proven: Manifest | None
    counts: Mapping[str, int]
    shared: Mapping[str, Manifest]
    desired: Desired


class World:
    """`wake` is called when something may have to be planned anew."""

    def __init__(self, observed: Observed, clock: Callable[[], float], wake: Callable[[], None]) -> None:
        self.observed = observed
        self.clock = clock
        self.wake = wake
        self.apps: dict[str, Stored] = {}
        self.overrides: dict[str, Overrides] = {}
        self.put: dict[str, Leftovers] = {}
        self.kept: dict[str, Manifest] = {}
        self.proven: dict[str, Manifest] = {}
        """The last version of each application that was ready."""
        self.pending: Pending = {}
        self.desired = Desired()
        self.plan = Plan()
        self.unplanned: set[str] = set()
        """Applications that changed since they were planned last."""
        self.told: dict[str, dict[str, Any]] = {}
        """wadm's status of each application, as it was published last."""
        self.manifests: dict[str, tuple[Stored, Manifest]] = {}
        """Of the deployed applications, as they were read last."""
        self._read: dict[str, _Read] = {}

    # -- what is told

    def fold(self, fact: Fact, source: HostId | None = None) -> None:
        self.observed = fold(self.observed, fact, self.clock(), source)

    def settle(self, key: Key) -> None:
        """A command about this has had its effect."""
        self.pending = settled(self.pending, key, self.clock())
        self.wake()

    def changed(self, name: str, stored: Stored | None) -> None:
        """An application was put, deployed, undeployed or deleted: what was said about it before does not count."""
        old = self.apps.get(name)
        if stored is None:
            self.apps.pop(name, None)
        else:
            self.apps[name] = stored
        for one in (old, stored):  # a deployment, also of the same version, begins afresh
            self._begin_afresh(one)
        if (old.deployed_version if old else None) != (stored.deployed_version if stored else None):
            self.unplanned.add(name)
        self.wake()

    def overridden(self, app: str, now: Overrides | None) -> None:
        """Somebody scaled: what was planned, and what failed, was about other numbers."""
        if self.overrides.get(app) == now:
            return
        if now is None:
            self.overrides.pop(app, None)
        else:
            self.overrides[app] = now
        stored = self.apps.get(app)
        if stored is not None and stored.deployed is not None:
            self.unplanned.add(app)
            self._begin_afresh(stored)
        self.wake()

    def _begin_afresh(self, stored: Stored | None) -> None:
        manifest = stored.deployed if stored is not None else None
        if manifest is None:
            return
        desired = desired_from(manifest)
        links = {str(link_key(link.link)) for link in desired.links}
        self.fold(Retry(frozenset({str(w.id) for w in desired.wanted} | set(desired.configs) | links)))

    # -- what is wanted

    def wants(self) -> Desired:
        return together(self.parts().values(), self.put)

    def parts(self) -> dict[str, Desired]:
        """What each deployed application wants, and what is kept of undeployed ones because those use it.

        Read from a manifest only when that, or what it shares, changed.
        """
        deployed, shared = self.deployed(), self.shared()
        read: dict[str, _Read] = {}
        for name, (stored, manifest) in self.manifests.items():
            override, proven = self.overrides.get(name), self.proven.get(name)
            counts = override.instances if override and override.version == stored.deployed_version else {}
            before = self._read.get(name)
            known = before is not None and before.manifest is manifest and before.proven is proven
            if before is not None and known and (before.counts, before.shared) == (counts, shared):
                read[name] = before
                continue
            desired = desired_from(manifest, counts, shared)
            if proven is not None:
                desired = with_proven(desired, desired_from(proven, None, shared), proven.version or "")
            read[name] = _Read(manifest, proven, counts, shared, desired)
        self._read = read
        return {**{name: one.desired for name, one in read.items()}, **kept_parts(self.kept, deployed)}

    def deployed(self) -> dict[str, Manifest]:
        """The manifest of each deployed application."""
        self.manifests = {
            name: (stored, m)
            for name, stored in sorted(self.apps.items())
            if (m := self._manifest_of(name, stored)) is not None
        }
        return {name: manifest for name, (_, manifest) in self.manifests.items()}

    def shared(self) -> dict[str, Manifest]:
        """The applications of which others may use components: deployed ones, and what is kept of others."""
        return {**self.kept, **{name: manifest for name, manifest in self.deployed().items() if manifest.shared}}

    def _manifest_of(self, name: str, stored: Stored) -> Manifest | None:
        """The deployed one."""
        known = self.manifests.get(name)
        return known[1] if known is not None and known[0] is stored else stored.deployed

    def used_by(self, name: str) -> dict[str, tuple[str, ...]]:
        """The components of an undeployed application that are kept, and for whom."""
        if name not in self.kept or name in self.manifests:
            return {}
        return users(name, (manifest for _, manifest in self.manifests.values()))

    # -- how it stands

    def word(self, name: str) -> str:
        """The state of an application."""
        stored = self.apps.get(name)
        if name in self.unplanned:
            return str(State.PROGRESSING)
        status = self.plan.apps.get(name)
        if status is not None and stored is not None and stored.deployed_version is not None:
            return str(status.state)
        if name in self.plan.leaving or (stored is not None and stored.deployed_version is not None):
            return str(State.PROGRESSING)
        return str(State.STOPPED)

    def app_status(self, name: str, stored: Stored | None) -> dict[str, Any]:
        """wadm's Status of one application."""
        if stored is None or stored.deployed_version is None:
            return undeployed("Manifest has been undeployed" if name in self.told else "")
        if name in self.unplanned:
            return wadm_status(None)
        return wadm_status(self.plan.apps.get(name), self.desired.of(name))
