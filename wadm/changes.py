"""What differs between two versions of one application, in what they want. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from wadm.desired import Desired, Kind, Rule, Wanted, WantedLink
from wadm.images import answered_by

Op = Literal["add", "remove", "change"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `component` is whose it is ("" for a configuration that several use).

    `kind` is one of component, provider, image, id, instances, placement, limits, uses (a capability that a component
    gets or loses), link, config. `before` and `after` are what people read; "" where there is nothing.
    """

    op: Op
    kind: str
    component: str
    name: str = ""
    before: str = ""
    after: str = ""


def changes(old: Desired, new: Desired) -> list[Change]:
    """Everything that differs, component by component, in the order in which `new` names them."""
    before = {w.name: w for w in old.wanted}
    after = {w.name: w for w in new.wanted}
    found: list[Change] = []
    for name, wanted in after.items():
        was = before.get(name)
        if was is not None and was.kind is not wanted.kind:
            found.append(Change("remove", str(was.kind), name, before=_image(was)))
            was = None
        if was is None:
            found.append(Change("add", str(wanted.kind), name, after=f"{_image(wanted)}, {_scale(wanted)}"))
        else:
            found += _of_component(was, wanted)
        found += _uses(name, old, new)
        found += _links(name, old, new)
    for name in sorted({link.source for link in new.links} - set(after)):  # shared components, run by another app
        found += [*_uses(name, old, new), *_links(name, old, new)]
    for name, wanted in before.items():
        if name not in after:
            found.append(Change("remove", str(wanted.kind), name, before=_image(wanted)))
    for name in sorted({link.source for link in old.links} - {link.source for link in new.links} - set(after)):
        found += [*_uses(name, old, new), *_links(name, old, new)]
    return [*found, *_configs(old, new)]


def _of_component(old: Wanted, new: Wanted) -> Iterator[Change]:
    for kind, before, after in (
        ("image", _image(old), _image(new)),
        ("id", old.id, new.id),
        ("instances", _scale(old), _scale(new)),
        ("placement", _spreads(old), _spreads(new)),
        ("limits", _pairs(dict(old.limits)), _pairs(dict(new.limits))),
    ):
        if before != after:
            yield Change("change", kind, new.name, before=before, after=after)
    for name in old.config:
        if name not in new.config:
            yield Change("remove", "config", new.name, name)
    for name in new.config:
        if name not in old.config:
            yield Change("add", "config", new.name, name)


def _uses(source: str, old: Desired, new: Desired) -> Iterator[Change]:
    """Interfaces that a component may call now, or may call no more. What calls a component is not its capability."""
    before, after = _capabilities(source, old), _capabilities(source, new)
    for interface in sorted(after.keys() - before.keys()):
        yield Change("add", "uses", source, interface, after=after[interface])
    for interface in sorted(before.keys() - after.keys()):
        yield Change("remove", "uses", source, interface, before=before[interface])


def _capabilities(source: str, desired: Desired) -> dict[str, str]:
    """Interface -> the target that provides it."""
    if any(w.name == source and w.kind is Kind.PROVIDER for w in desired.wanted):
        return {}
    return {i: link.target for link in desired.links if link.source == source for i in link.link.covers()}


def _links(source: str, old: Desired, new: Desired) -> Iterator[Change]:
    before = {_ends(link): link for link in old.links if link.source == source}
    after = {_ends(link): link for link in new.links if link.source == source}
    for key, link in after.items():
        was = before.get(key)
        if was is None:
            yield Change("add", "link", source, link.target, after=_interfaces(link))
        elif (_interfaces(was), _configs_of(was)) != (_interfaces(link), _configs_of(link)):
            yield Change("change", "link", source, link.target, _described(was), _described(link))
    for key, link in before.items():
        if key not in after:
            yield Change("remove", "link", source, link.target, before=_interfaces(link))


def _configs(old: Desired, new: Desired) -> Iterator[Change]:
    """What a configuration of the same name says now. One that is new or gone shows with what uses it."""
    for name in sorted(new.configs):
        before, after = old.configs.get(name), new.configs[name]
        if before is None:
            yield Change("add", "config", "", name, after=_pairs(after))
            continue
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                op: Op = "add" if key not in before else "remove" if key not in after else "change"
                yield Change(op, "config", "", f"{name}.{key}", before.get(key, ""), after.get(key, ""))
    for name in sorted(set(old.configs) - set(new.configs)):
        yield Change("remove", "config", "", name, before=_pairs(old.configs[name]))


def _image(wanted: Wanted) -> str:
    ours = answered_by(wanted.image)
    return f"{wanted.image} (answered by {ours})" if ours is not None and ours != wanted.image else wanted.image


def _scale(wanted: Wanted) -> str:
    number = wanted.instances
    if wanted.kind is Kind.PROVIDER:
        return "every matching host" if wanted.rule is Rule.DAEMON else f"{number} {'host' if number == 1 else 'hosts'}"
    word = "instance" if number == 1 else "instances"
    return f"{number} {word} on every matching host" if wanted.rule is Rule.DAEMON else f"{number} {word}"


def _spreads(wanted: Wanted) -> str:
    return "; ".join(f"{s.name}: {s}, weight {s.weight}" for s in wanted.spreads)


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(values.items()))


def _ends(link: WantedLink) -> tuple[str, ...]:
    one = link.link
    return (link.target, one.target, one.wit_namespace, one.wit_package, one.name)


def _interfaces(link: WantedLink) -> str:
    return ", ".join(sorted(link.link.covers()))


def _configs_of(link: WantedLink) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return link.link.source_config, link.link.target_config


def _described(link: WantedLink) -> str:
    configs = [*link.link.source_config, *link.link.target_config]
    return _interfaces(link) + (f" with {', '.join(configs)}" if configs else "")
