"""What only one application can have: an id, and a link of one source under one name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lattice import EntityId
from lattice.links import LinkDefinition
from wadm.desired import Desired, WantedLink
from wadm.reasons import IN_THE_WAY, OWNED, Reason


def clashes(mine: Desired, others: Iterable[Desired]) -> Iterator[Reason]:
    """What one application wants and another one has already; each reason names both."""
    names = {w.id: w for w in mine.wanted}
    for other in others:
        for theirs in other.wanted:
            if theirs.id in names:
                yield owned(theirs.id, names[theirs.id].app, names[theirs.id].name, theirs.app)
        for rival in other.links:
            for link in mine.links:
                if contradict(rival.link, link.link):
                    yield in_the_way(link, rival)


def contradict(one: LinkDefinition, other: LinkDefinition) -> bool:
    """Both cannot be on the lattice: they differ in the target of an interface, or are one link with two contents."""
    return one.conflicts(other) or (one.replaces(other) and not same_link(one, other))


def same_link(old: LinkDefinition, new: LinkDefinition) -> bool:
    """`old` does what `new` asks for; the order of interfaces does not matter."""
    return (
        old.replaces(new)
        and set(old.interfaces) == set(new.interfaces)
        and (old.source_config, old.target_config) == (new.source_config, new.target_config)
    )


def owned(id: EntityId, app: str, name: str, by: str) -> Reason:
    return Reason(
        OWNED,
        f"Component identifier '{id}' is already deployed in a different application '{by}', "
        f"and '{app}' wants it for {name}.",
        f"give `{name}` another `id`, or undeploy {by}",
    )


def in_the_way(mine: WantedLink, rival: WantedLink) -> Reason:
    """`rival` is the one that stays."""

    def said(link: WantedLink) -> str:
        configs = [*link.link.source_config, *link.link.target_config]
        return link.link.target + (f" with {', '.join(configs)}" if configs else "")

    return Reason(
        IN_THE_WAY,
        f"Application {rival.app} links {', '.join(rival.link.covers())} of {rival.link.source_id} to {said(rival)}, "
        f"and {mine.app} wants {', '.join(mine.link.covers())} to go to {said(mine)}.",
        "give one of the two links another name",
    )
