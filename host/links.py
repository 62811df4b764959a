"""The lattice's links (LATTICEDATA): followed by every host, written by whichever host was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from pydantic import ValidationError

from host.configs import Configs
from lattice import EntityId, LinkName, NotLinked
from lattice.links import ComponentRecord, LinkDefinition, LinkKey
from lattice.transport import Bucket, Entry, WrongRevision
from lattice.watching import follow

log = structlog.get_logger("host")

PREFIX = "COMPONENT_"

OnLinks = Callable[[list[LinkDefinition], list[LinkDefinition]], None]


class LinkRefused(Exception):
    """A link.put that cannot be: the message says why."""


class Links:
    """Every link of the lattice. Run `follow` beside it."""

    def __init__(self, bucket: Bucket, configs: Configs) -> None:
        self._bucket = bucket
        self._configs = configs
        self._records: dict[EntityId, ComponentRecord] = {}
        self._targets: dict[tuple[EntityId, str, LinkName], EntityId] = {}
        self.ready = asyncio.Event()
        self.on_change: list[OnLinks] = []
        """Called with (links gone or replaced, links new or changed) after a record changed."""

    async def follow(self) -> None:
        await follow(self._bucket, self._seen, self.ready)

    def _seen(self, entry: Entry) -> None:
        if not entry.key.startswith(PREFIX):
            return
        source = EntityId(entry.key.removeprefix(PREFIX))
        record = _parse(entry)
        if record is None:
            return
        before = self._records.get(source, ComponentRecord()).links
        self._records[source] = record
        for link in before:
            for interface in link.covers():
                self._targets.pop((source, interface, link.name), None)
        for link in record.links:
            for interface in link.covers():
                self._targets[source, interface, link.name] = link.target
        gone = [old for old in before if old not in record.links]
        new = [link for link in record.links if link not in before]
        if gone or new:
            for callback in self.on_change:
                callback(gone, new)

    def all(self) -> list[LinkDefinition]:
        return [link for record in self._records.values() for link in record.links]

    def of(self, entity: EntityId) -> list[LinkDefinition]:
        """Links whose source or target it is."""
        return [link for link in self.all() if entity in (link.source_id, link.target)]

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
        return any(s == source and i == interface for s, i, _ in self._targets)

    def _why_not(self, source: EntityId, interface: str, name: LinkName) -> str:
        said = f'"{source}" is not linked to {interface} (link "{name}")'
        others = [link for link in self.all() if link.source_id == source]
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
        """Read, change, write at the revision read; again when another host wrote in between."""
        key = PREFIX + source
        while True:
            entry = await self._bucket.get(key)
            # a broker that lost its data is given back what we know
            known = self._records.get(source, ComponentRecord()).model_copy(deep=True)
            record = known if entry is None else _parse(entry) or ComponentRecord()
            if not change(record):
                return
            raw = record.model_dump_json().encode()
            try:
                if entry is None:
                    revision = await self._bucket.create(key, raw)
                else:
                    revision = await self._bucket.update(key, raw, entry.revision)
            except WrongRevision:
                continue
            self._seen(Entry(key, raw, revision))
            return


def _parse(entry: Entry) -> ComponentRecord | None:
    if entry.value is None:
        return ComponentRecord()
    try:
        return ComponentRecord.model_validate_json(entry.value)
    except ValidationError as error:
        log.warning("links.unreadable", key=entry.key, error=str(error))
        return None
