"""Whether the links of a manifest can be: their ends, their interfaces, and no two in each other's way."""

from __future__ import annotations

import re
from collections.abc import Mapping

from wadm.checker import NAME, Checker, did_you_mean, quoted
from wadm.interfaces import KNOWN_INTERFACES, example
from wadm.manifest import Link
from wadm.shape import Part
from wadm.source import Path

_WIT = re.compile(r"^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$")


class Linking(Checker):
    """Looks at one link, or at those of one component."""

    def link(self, part: Part, path: Path, link: Link, by_name: Mapping[str, Part]) -> None:
        raw = self.value(path)
        by_string = isinstance(raw.get("target"), str)
        self.target(part, (*path, "target") if by_string else (*path, "target", "name"), link, by_name)
        if not link.interfaces:
            self.report(
                "018",
                f"link of `{part.name}` to `{link.target.name}` names no interfaces",
                (*path, "interfaces"),
                key=True,
                fix=f"list them: interfaces: [{example(link.namespace, link.package)}]",
            )
        if not NAME.match(link.name):
            self.bad_name("link", link.name, (*path, "name"))
        for name in ("namespace", "package"):
            self.wit_name(getattr(link, name), name, (*path, name))
        for index, interface in enumerate(link.interfaces):
            at = (*path, "interfaces", index)
            if self.wit_name(interface, "interface", at):
                self.known_interface(link.namespace, link.package, interface, path, index)
        for old, new, there in (
            ("target_config", "target:\n  config:", link.target_config),
            ("source_config", "source:\n  config:", link.source_config),
        ):
            if there or old in raw:
                self.report(
                    "028",
                    f"`{old}` is an outdated form",
                    (*path, old),
                    key=True,
                    fix=f"write it as `{new.splitlines()[0]}` with `config:` below",
                    level="warning",
                )

    def target(self, part: Part, path: Path, link: Link, by_name: Mapping[str, Part]) -> None:
        target = by_name.get(link.target.name)
        if target is None:
            by_id = next(
                (p.name for p in by_name.values() if p.properties and p.properties.id == link.target.name), None
            )
            others = [name for name in by_name if name != part.name]
            self.report(
                "017",
                f"link of `{part.name}` goes to `{link.target.name}`, which is not a component of this manifest",
                path,
                hint=f"use its name: `{by_id}`" if by_id else did_you_mean(link.target.name, others),
                why=f"this manifest has {quoted(sorted(others))}" if others else "",
                fix="correct the name, or add the component",
            )
        elif part.type == "capability" and target.type == "capability":
            self.report(
                "021",
                f"link from provider `{part.name}` to provider `{target.name}`",
                path,
                why="a link joins a component and a provider, or two components",
                fix="link a component in between, or configure the providers directly",
            )

    def wit_name(self, text: str, what: str, path: Path) -> bool:
        if _WIT.match(text):
            return True
        bare = text.rpartition("/")[2].partition("@")[0]
        self.report(
            "030",
            f"`{text}` is not a WIT {what} name",
            path,
            hint=f"perhaps `{bare}`?" if bare != text and _WIT.match(bare) else "",
            why="it is lower-case words joined by `-`, without a version: links match any compatible one",
        )
        return False

    def known_interface(self, namespace: str, package: str, interface: str, path: Path, index: int) -> None:
        packages = KNOWN_INTERFACES.get(namespace)
        if packages is None:
            return
        interfaces = packages.get(package)
        if interfaces is None:
            if index == 0:
                self.report(
                    "019",
                    f"unknown package `{namespace}:{package}`",
                    (*path, "package"),
                    hint=did_you_mean(package, packages),
                    level="warning",
                )
        elif interface not in interfaces:
            self.report(
                "019",
                f"unknown interface `{namespace}:{package}/{interface}`",
                (*path, "interfaces", index),
                hint=did_you_mean(interface, interfaces),
                why=f"{namespace}:{package} has {quoted(sorted(interfaces))}",
                level="warning",
            )

    def twice_linked(self, part: Part) -> None:
        """One interface under one link name has one target; and two halves of one link must agree."""
        taken: dict[tuple[str, str, str, str], tuple[Path, Link]] = {}
        halves: dict[tuple[str, str, str, str], tuple[Path, Link]] = {}
        for path, link in part.links:
            clash = False
            for index, interface in enumerate(link.interfaces):
                key = (link.name, link.namespace, link.package, interface)
                other = taken.setdefault(key, (path, link))
                if other[1] is link or clash:
                    continue
                if other[1].target.name != link.target.name:
                    clash = True
                    self.report(
                        "020",
                        f"`{part.name}` links {link.namespace}:{link.package}/{interface} (name `{link.name}`) "
                        f"to `{link.target.name}` and also to `{other[1].target.name}`",
                        (*path, "interfaces", index),
                        hint=f"also linked at line {self.line((*other[0], 'interfaces'))}",
                        why="a call could go to either",
                        fix="remove one, or give one of the two links a `name:` of its own",
                    )
            half = (link.name, link.namespace, link.package, link.target.name)
            first = halves.setdefault(half, (path, link))
            if first[1] is not link and (first[1].for_target(), first[1].for_source()) != (
                link.for_target(),
                link.for_source(),
            ):
                self.report(
                    "020",
                    f"`{part.name}` has two links to `{link.target.name}` for {link.namespace}:{link.package} "
                    f"(name `{link.name}`) with different configuration",
                    path[:-1],
                    hint=f"the other is at line {self.line(first[0][:-1])}",
                    why="both are one link on the lattice, so one configuration would be lost",
                    fix="put all interfaces into one link, or give one of the two links a `name:` of its own",
                )
