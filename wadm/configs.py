"""Whether the named configurations of a manifest can be: one name on the lattice, one meaning."""

from __future__ import annotations

from collections.abc import Sequence

from lattice import Finding
from wadm.checker import NAME, Checker
from wadm.manifest import Config, config_name
from wadm.source import Document, Path


class Configs(Checker):
    """All of one manifest: `add` each list of them, then look at the `references`."""

    def __init__(self, document: Document, findings: list[Finding], app: str) -> None:
        super().__init__(document, findings)
        self.app = app
        self.ours: dict[str, tuple[Config, Path]] = {}
        self.named: dict[str, Path] = {}
        self.external: list[tuple[Config, Path]] = []

    def add(self, configs: Sequence[Config], path: Path) -> None:
        listed: dict[str, Path] = {}
        for index, config in enumerate(configs):
            at = (*path, index, "name")
            if config.name in listed:
                self.report(
                    "022",
                    f"config `{config.name}` is listed twice here",
                    at,
                    hint=f"first at line {self.line(listed[config.name])}",
                    fix="remove one of them",
                )
                continue
            listed[config.name] = at
            if config.properties is None:
                if not NAME.match(config.name):
                    self.bad_name("config", config.name, at)
                self.external.append((config, at))
                continue
            if not config.name:
                self.bad_name("config", config.name, at)
            name = config_name(self.app, config)
            self.named.setdefault(config.name, at)
            known = self.ours.setdefault(name, (config, at))
            if known[0].properties != config.properties:
                self.report(
                    "022",
                    f"config `{config.name}` is defined twice with different properties",
                    at,
                    hint=f"the other is at line {self.line(known[1])}",
                    why=f"both are `{name}` on the lattice, so one would overwrite the other",
                    fix="give one of them another name",
                )

    def references(self) -> None:
        for config, at in self.external:
            here = self.named.get(config.name)
            if here is not None:
                self.report(
                    "022",
                    f"`{config.name}` without properties means a config of that very name on the lattice, "
                    f"not the one defined at line {self.line(here)}",
                    at,
                    fix="repeat the properties to use the same configuration",
                    level="warning",
                )
