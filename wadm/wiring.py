"""Configurations and links: put before what needs them, taken away when nothing needs them any more."""

from __future__ import annotations

from collections.abc import Mapping

from lattice import EntityId, HostId
from lattice.control import Wired
from wadm import claims
from wadm.commands import DeleteConfig, DeleteLink, PutConfig, PutLink, link_key
from wadm.desired import WantedLink
from wadm.observed import NOWHERE
from wadm.plan import READY, AppStatus, ComponentStatus, LinkStatus, Standing, refused
from wadm.reasons import IN_THE_WAY, NO_CONFIG, UNDER_WAY, Reason, State
from wadm.round import Round, claim


class Wiring:
    """Of one round."""

    def __init__(self, round: Round) -> None:
        self.round = round

    def configs(self) -> dict[str, Standing]:
        """How each configuration that is used stands."""
        desired = self.round.desired
        found = {name: self.config(name, data) for name, data in sorted(desired.configs.items())}
        for name in sorted(desired.external):
            found[name] = self.external(name)
        for id, why in self.failing_things():  # what the lattice itself refused: show it where it is needed
            if id in found and found[id].state is not State.READY:
                found[id] = why
        return found

    def config(self, name: str, data: Mapping[str, str]) -> Standing:
        if self.round.observed.configs.get(name) == data:
            return READY
        if not self.round.waiting(name):
            self.round.send(PutConfig(name, data))
        return Standing(State.PROGRESSING, Reason(UNDER_WAY, f"Configuration {name} is being written."))

    def external(self, name: str) -> Standing:
        if name in self.round.observed.configs:
            return READY
        return Standing(
            State.BLOCKED,
            Reason(
                NO_CONFIG,
                f"Configuration {name} is not on the lattice, and the manifest gives it no properties.",
                f"put it there, or give `{name}` properties in the manifest",
            ),
        )

    def failing_things(self) -> list[tuple[str, Standing]]:
        found = []
        for (host, id), failure in sorted(self.round.observed.failures.items()):
            if host == NOWHERE:
                found.append((id, refused(failure.error)))
        return found

    def link(self, wanted: WantedLink, configs: Mapping[str, Standing]) -> Standing:
        link = wanted.link
        for rival in self.round.links_by_source[claim(link)]:
            if claims.contradict(rival.link, link) and (rival.app, str(rival.link)) < (wanted.app, str(link)):
                return Standing(State.BLOCKED, claims.in_the_way(wanted, rival))
        for name in (*link.source_config, *link.target_config):
            if name in configs and configs[name].state is not State.READY:
                return configs[name]
        there = self.round.linked.get(link.identity)
        if there is not None and claims.same_link(there, link):
            return READY
        in_the_way = [old for old in self.round.observed.links.get(link.source_id, ()) if old.conflicts(link)]
        for old in in_the_way:
            owner = self.round.ids.get(link.source_id)
            put_before = any(old in leftovers.links for leftovers in self.round.desired.leftovers.values())
            if not put_before and (owner is None or owner.app != wanted.app):
                return Standing(
                    State.BLOCKED,
                    Reason(
                        IN_THE_WAY,
                        f"Somebody else links {', '.join(old.covers())} of {old.source_id} to {old.target}.",
                        f"delete that link, or give the one to {link.target} another name",
                    ),
                )
            self.round.send(DeleteLink(old))
        if not in_the_way and not self.round.waiting(str(link_key(link))):
            self.round.send(PutLink(link))
        known = self.round.observed.failures.get((NOWHERE, str(link_key(link))))
        if known is not None:
            return refused(known.error)
        return Standing(State.PROGRESSING, Reason(UNDER_WAY, f"The link to {wanted.target} is being made."))

    def link_status(
        self, wanted: WantedLink, standing: Standing, statuses: Mapping[EntityId, ComponentStatus]
    ) -> LinkStatus:
        def on(id: EntityId) -> list[HostId]:
            return sorted({**self.round.components.get(id, {}), **self.round.provided.get(id, {})})

        if standing.state is State.READY:
            standing = self.refused_by_provider(wanted) or self.unanswered(wanted) or standing

        def apart(id: EntityId) -> bool:
            return any(running.apart for running in self.round.provided.get(id, {}).values())

        targets = set(on(wanted.link.target))
        sources = on(wanted.link.source_id)
        inside = set() if apart(wanted.link.source_id) or apart(wanted.link.target) else targets
        return LinkStatus(
            wanted,
            standing.state,
            standing.reason,
            tuple(h for h in sources if h in inside),
            tuple(h for h in sources if h not in inside and targets),
        )

    def refused_by_provider(self, wanted: WantedLink) -> Standing | None:
        """What a provider says against a link that is on the lattice. It holds nothing back: others may use it."""
        for host, error in self.round.refused_links.get(link_key(wanted.link), ()):
            return refused(error, f"On {host.called}: ")
        return None

    def unanswered(self, wanted: WantedLink) -> Standing | None:
        """Where a provider has not been given the link as it is now: it may still refuse it."""
        link, observed = wanted.link, self.round.observed
        configs = [observed.config_revisions.get(name, 0) for name in (*link.source_config, *link.target_config)]
        there = Wired(links=observed.link_revisions.get(link.source_id, 0), configs=max(configs, default=0))
        for id in (link.source_id, link.target):
            for host in self.round.in_order(self.round.provided.get(id, ())):
                if host.wired is not None and not host.wired.covers(there):
                    return Standing(State.PROGRESSING, Reason(UNDER_WAY, f"{host.called} gives {id} its links."))
        return None

    # -- what is not wanted any more

    def leftover_links(self) -> set[str]:
        """Delete the links that applications put and nobody wants any more; those applications."""
        round = self.round
        wanted = {link_key(w.link) for w in round.desired.links}
        found: set[str] = set()
        for app, leftovers in sorted(round.desired.leftovers.items()):
            ours = {link_key(link) for link in leftovers.links} - wanted
            if not ours:
                continue
            for old in round.observed.all_links():
                if link_key(old) in ours:
                    found.add(app)
                    if not round.outdated(old.source_id):  # else the version that needs it takes calls, or may have to
                        round.send(DeleteLink(old))
        return found

    def leftover_configs(self, leaving: set[str], apps: Mapping[str, AppStatus]) -> set[str]:
        """Delete their configurations too, as soon as nothing can use them; those applications."""
        desired, observed = self.round.desired, self.round.observed
        in_use = {c for link in observed.all_links() for c in (*link.source_config, *link.target_config)}
        found: set[str] = set()
        for app, leftovers in sorted(desired.leftovers.items()):
            for name in sorted(leftovers.configs):
                if name not in observed.configs or name in desired.configs or name in desired.external:
                    continue
                found.add(app)
                here = apps.get(app, AppStatus(State.READY))
                changing = here.state is not State.READY and any(c.running for c in here.components)
                if app not in leaving and not changing and name not in in_use:
                    self.round.send(DeleteConfig(name))
        return found
