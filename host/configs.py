"""Named configurations (CONFIGDATA): read, merged, written, and followed as they change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

import structlog

from host.followed import Followed
from host.own_values import OwnValues
from lattice import BadInput, Finding, read_json
from lattice.transport import Bucket, Entry

log = structlog.get_logger("host")


class Configs(Followed):
    """Every named configuration of the lattice."""

    def __init__(self, bucket: Bucket, own: OwnValues | None = None) -> None:
        super().__init__(bucket)
        self._own = own or OwnValues()
        self._known: dict[str, dict[str, str]] = {}
        self.on_change: list[Callable[[str], None]] = []
        """Called with a configuration's name after it was set, changed or deleted."""

    def _seen(self, entry: Entry) -> None:
        before = self._known.get(entry.key)
        if entry.value is None:
            self._known.pop(entry.key, None)
        else:
            values = _parse(entry)
            if values is None:
                return
            self._known[entry.key] = values
        if self._known.get(entry.key) != before:
            for callback in self.on_change:
                callback(entry.key)

    async def get(self, name: str) -> dict[str, str] | None:
        """One configuration as the lattice has it now, or None."""
        entry = await self._bucket.get(name)
        return None if entry is None else _parse(entry)

    async def put(self, name: str, values: dict[str, str]) -> None:
        await self._bucket.put(name, json.dumps(values).encode())

    async def delete(self, name: str) -> None:
        await self._bucket.purge(name)

    async def missing(self, names: Iterable[str]) -> list[str]:
        """Which of `names` the lattice does not have."""
        return [n for n in names if n not in self._known and await self.get(n) is None]

    async def merged(self, names: Iterable[str], said: Mapping[str, Mapping[str, str]] | None = None) -> dict[str, str]:
        """The configurations in `names` merged from left to right, the right-most winning. Raises BadInput.

        Those in `said` as it says, not as the lattice has them.
        """
        result: dict[str, str] = {}
        for name in names:
            values = said[name] if said and name in said else await self.get(name)
            if values is None:
                raise BadInput(
                    Finding(
                        "TRL-CFG-001",
                        f"Config {name} does not exist",
                        why="a component, provider or link names it",
                        fix=f"put it first: config.put.{name}, or give it properties in the manifest",
                    )
                )
            result.update(values)
        return await self._own.filled(result)


def _parse(entry: Entry) -> dict[str, str] | None:
    try:
        values = read_json(entry.value or b"null")
    except ValueError:
        values = None
    if not isinstance(values, dict):
        log.warning("config.unreadable", config=entry.key)
        return None
    return {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
