"""What has to be remembered in the store: for whom something was put on the lattice, what was ready, what is kept."""

from __future__ import annotations

from lattice.transport import Entry
from wadm.commands import Key, PutConfig, PutLink, link_key
from wadm.desired import Desired, Leftovers
from wadm.manifest import Manifest
from wadm.plan import Plan
from wadm.reasons import State
from wadm.store import Store, decode_manifest, decode_overrides, decode_put
from wadm.world import World


class Ledger:
    """The store's notes, read into a world and kept in step with it."""

    def __init__(self, store: Store, world: World) -> None:
        self.store = store
        self.world = world
        self._noted_ready: dict[str, Manifest] = {}

    def noted(self, entry: Entry) -> None:
        """A note was written, perhaps by another manager."""
        note = self.store.note_of(entry.key)
        if note is None:
            return
        kind, app = note
        world = self.world
        if kind == "override":
            world.overridden(app, decode_overrides(entry.value) if entry.value is not None else None)
        elif kind == "kept":
            world.kept = _with(world.kept, app, entry)
        elif kind == "proven":
            world.proven = _with(world.proven, app, entry)
        elif entry.value is None:
            world.put.pop(app, None)
        else:
            world.put[app] = decode_put(entry.value)

    async def note_what_will_be_put(self, plan: Plan) -> None:
        """Before anything is put on the lattice, the store says for whom: so that it can be taken away again."""
        if not any(isinstance(c, (PutLink, PutConfig)) for c in plan.commands):
            return
        world = self.world
        for app in sorted(world.desired.apps):
            old = world.put.get(app, Leftovers())
            mine = _puts(world.desired, app)
            both = Leftovers(old.links | mine.links, old.configs | mine.configs)
            if both != old:
                await self.store.note_put(app, both)
                world.put[app] = both

    async def note_what_is_ready(self) -> None:
        """It is what to go back to where the next version does not run."""
        world = self.world
        for name, (stored, manifest) in world.manifests.items():
            ready = name in world.plan.apps and world.plan.apps[name].state is State.READY
            if not ready or name in world.unplanned or self._noted_ready.get(name) is manifest:
                continue
            if world.proven.get(name) != manifest and stored.deployed_version is not None:
                await self.store.note_proven(name, stored.manifests[stored.deployed_version])
                world.proven = {**world.proven, name: manifest}
            self._noted_ready[name] = manifest

    async def forget_what_is_gone(self) -> None:
        """What is neither wanted nor there any more need not be remembered."""
        world = self.world
        for app in world.proven.keys() - world.manifests.keys():
            await self.store.note_proven(app, None)
            self._noted_ready.pop(app, None)
            world.proven = {name: m for name, m in world.proven.items() if name != app}
        for app in [n for n in world.kept if n not in world.apps or world.apps[n].deployed_version is None]:
            if not world.used_by(app):
                await self.store.note_kept(app, None)
                world.kept = {name: m for name, m in world.kept.items() if name != app}
        await self._forget_what_was_put()

    async def _forget_what_was_put(self) -> None:
        world, now = self.world, self.world.clock()
        there = {link_key(link) for link in world.observed.all_links()}
        for app, noted in list(world.put.items()):
            mine = _puts(world.desired, app) if app in world.desired.apps else Leftovers()
            kept = Leftovers(
                frozenset(link for link in noted.links if link in mine.links or link_key(link) in there),
                frozenset(c for c in noted.configs if c in mine.configs or c in world.observed.configs),
            )
            on_its_way = any(key in world.pending and world.pending[key].until > now for key in _keys(noted))
            if kept == noted or on_its_way:
                continue
            await self.store.note_put(app, kept)
            if kept.links or kept.configs:
                world.put[app] = kept
            else:
                world.put.pop(app, None)


def _with(manifests: dict[str, Manifest], app: str, entry: Entry) -> dict[str, Manifest]:
    """With the manifest that is noted for `app`, or without."""
    found = decode_manifest(entry.value) if entry.value is not None else None
    return {name: m for name, m in {**manifests, app: found}.items() if m is not None}


def _puts(desired: Desired, app: str) -> Leftovers:
    links = frozenset(link.link for link in desired.links_of(app))
    return Leftovers(links, frozenset(n for n, owner in desired.owners.items() if owner == app))


def _keys(leftovers: Leftovers) -> set[Key]:
    return {link_key(link) for link in leftovers.links} | {("config", name) for name in leftovers.configs}
