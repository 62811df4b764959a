"""The lattice's links (LATTICEDATA): followed by every host, written by whichever host was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

import structlog
from pydantic import ValidationError

from host.configs import Configs
from host.followed import Followed
from lattice import EntityId, LinkName, NotLinked
from lattice.links import ComponentRecord, LinkDefinition, LinkKey
from lattice.transport import Bucket, Entry, swap

log = structlog.get_logger("host")

PREFIX = "COMPONENT_"

OnLinks = Callable[[list[LinkDefinition], list[LinkDefinition]], None]


class LinkRefused(Exception):
    """A link.put that cannot be: the message says why."""


class Links(Followed):
    """Every link of the lattice."""

    def __init__(self, bucket: Bucket, configs: Configs) -> None:
        super().__init__(bucket)
        self._configs = configs
        self._records: dict[EntityId, ComponentRecord] = {}
        self._raw: dict[EntityId, bytes | None] = {}
        self._by_source: dict[EntityId, dict[tuple[str, ...], LinkDefinition]] = {}
        self._by_target: dict[EntityId, dict[tuple[str, ...], LinkDefinition]] = {}
        self._targets: dict[tuple[EntityId, str, LinkName], EntityId] = {}
        self._turns: WeakValueDictionary[EntityId, asyncio.Lock] = WeakValueDictionary()
        self.others: Callable[[Entry], None] = lambda _: None
        """Called with what else is in the bucket."""
        self.on_change: list[OnLinks] = []
        """Called with (links gone or replaced, links new or changed) after a record changed."""

    def _seen(self, entry: Entry) -> None:
        if not entry.key.startswith(PREFIX):
            self.others(entry)
            return
        source = EntityId(entry.key.removeprefix(PREFIX))
        if source in self._raw and self._raw[source] == entry.value:
            return
        record = _parse(entry)
        if record is not None:
            self._raw[source] = entry.value
            self._take(source, record)

    def _take(self, source: EntityId, record: ComponentRecord) -> None:
        """Work for what is gone and new only: a source may have a thousand links, and get them one by one."""
        self._records[source] = record
        before = self._by_source.get(source, {})
        now = self._by_source[source] = {link.identity: link for link in record.links}
        new = [link for key, link in now.items() if before.get(key) != link]
        changed = {link.identity for link in new}
        gone = [link for key, link in before.items() if key in changed or key not in now]
        for link in gone:
            self._by_target[link.target].pop(link.identity, None)
            for interface in link.covers():
                if self._targets.get((source, interface, link.name)) == link.target:
                    del self._targets[source, interface, link.name]
        for link in new:
            self._by_target.setdefault(link.target, {})[link.identity] = link
            for interface in link.covers():
                self._targets[source, interface, link.name] = link.target
        if gone or new:
            for callback in self.on_change:
                callback(gone, new)

    def all(self) -> list[LinkDefinition]:
        return [link for record in self._records.values() for link in record.links]

    def of(self, entity: EntityId) -> list[LinkDefinition]:
        """Links whose source or target it is."""
        return list((self._by_source.get(entity, {}) | self._by_target.get(entity, {})).values())

    def sources(self, entity: EntityId) -> list[LinkDefinition]:
        """Links whose source it is."""
        return list(self._by_source.get(entity, {}).values())

    async def target(self, source: EntityId, interface: str, name: LinkName) -> EntityId:
        """Who answers `interface` for `source` under the link name. Raises NotLinked, naming the links there are."""
        target = self._targets.get((source, interface, name))
        if target is not None:
            return target
        # a link can be younger than our image of the bucket
        entry = await self._bucket.get(PREFIX + source)
        if entry is not None:
            self._seen(entry)
            target = self._targets.get((source, interface, name))
            if target is not None:
                return target
        raise NotLinked(self._why_not(source, interface, name), source=source, interface=interface, link=name)

    def linked(self, source: EntityId, interface: str) -> bool:
        """Some link of `source`, under whichever name, provides `interface`."""
        return any(interface in link.covers() for link in self.sources(source))

    def _why_not(self, source: EntityId, interface: str, name: LinkName) -> str:
        said = f'"{source}" is not linked to {interface} (link "{name}")'
        others = self.sources(source)
        if not others:
            return f"{said}; it has no links at all"
        return f"{said}; it has: " + "; ".join(sorted(str(link) for link in others))

    async def started(self, entity: EntityId, reference: str) -> None:
        """Note the image that `entity` was started from, keeping its links."""

        def note(record: ComponentRecord) -> bool:
            if record.url == reference:
                return False
            record.url = reference
            return True

        await self._change(entity, note)

    async def put(self, link: LinkDefinition) -> None:
        """Raises LinkRefused for a conflict, or for a configuration that does not exist."""
        missing = await self._configs.missing([*link.source_config, *link.target_config])
        if missing:
            parts = "".join(f"Configuration {name} not found in config store. " for name in missing)
            raise LinkRefused(f"Failed to validate configuration and secrets. {parts}")

        def add(record: ComponentRecord) -> bool:
            for other in record.links:
                if link.conflicts(other):
                    raise LinkRefused(
                        "link already exists with different target, consider deleting the existing link or using a "
                        f"different link name ({other})"
                    )
            if link in record.links:
                return False
            for index, other in enumerate(record.links):
                if link.replaces(other):
                    record.links[index] = link
                    return True
            record.links.append(link)
            return True

        await self._change(link.source_id, add)

    async def delete(self, key: LinkKey) -> LinkDefinition | None:
        """Remove the first link that matches; the link removed, or None when there was none."""
        removed: list[LinkDefinition] = []

        def remove(record: ComponentRecord) -> bool:
            removed.clear()
            for link in record.links:
                if key.matches(link):
                    removed.append(link)
                    record.links.remove(link)
                    return True
            return False

        await self._change(key.source_id, remove)
        return removed[0] if removed else None

    async def _change(self, source: EntityId, change: Callable[[ComponentRecord], bool]) -> None:
        """Read, change, write at the revision read; again when another host wrote in between. One at a time here."""
        key = PREFIX + source
        async with self._turns.setdefault(source, asyncio.Lock()):
            while True:
                entry = await self._bucket.get(key)
                if entry is not None:
                    record = _parse(entry) or ComponentRecord()
                else:  # never written, or lost by the broker: then it gets back what we know
                    record = self._records.get(source, ComponentRecord()).model_copy(deep=True)
                if not change(record):
                    return
                raw = record.model_dump_json().encode()
                if await swap(self._bucket, key, entry, raw):
                    self._raw[source] = raw
                    self._take(source, record)
                    return


def _parse(entry: Entry) -> ComponentRecord | None:
    if entry.value is None:
        return ComponentRecord()
    try:
        return ComponentRecord.model_validate_json(entry.value)
    except ValidationError as error:
        log.warning("links.unreadable", key=entry.key, error=str(error))
        return None
