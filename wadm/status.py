"""How applications stand, as JSON: in wadm's words for its clients, and in ours with every detail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wadm.desired import SPREAD, Kind, Rule, Spread, Wanted
from wadm.images import answered_by
from wadm.observed import Observed
from wadm.plan import AppStatus, ComponentStatus, LinkStatus
from wadm.reasons import Reason, State

_WADM = {
    State.READY: "deployed",
    State.PROGRESSING: "reconciling",
    State.DEGRADED: "unhealthy",
    State.BLOCKED: "failed",
    State.FAILED: "failed",
    State.STOPPED: "undeployed",
}

UNDEPLOYED: dict[str, Any] = {"status": {"type": "undeployed"}, "version": "", "components": []}


def wadm_status(status: AppStatus | None, wanted: tuple[Wanted, ...] = ()) -> dict[str, Any]:
    """wadm's Status. None: the manifest is deployed, and nothing was planned for it yet."""
    if status is None:
        return {**UNDEPLOYED, "status": {"type": "waiting", "message": "Waiting for the first look at the lattice"}}
    by_id = {w.id: w for w in wanted}
    scalers = [_component_scaler(c, by_id.get(c.id)) for c in status.components]
    scalers += [_link_scaler(link) for link in status.links]
    message = ", ".join(reason.message for reason in status.reasons())
    result: dict[str, Any] = {"status": _info(_WADM[status.state], message)}
    if scalers:
        result["scalers"] = scalers
    return {**result, "version": "", "components": []}


def undeployed(message: str = "") -> dict[str, Any]:
    return {**UNDEPLOYED, "status": _info("undeployed", message)}


def plain_type(status: Mapping[str, Any]) -> str:
    """The status type in the words that older clients know."""
    kind = str(status["status"]["type"])
    return {"waiting": "undeployed", "unhealthy": "reconciling"}.get(kind, kind)


def _info(kind: str, message: str) -> dict[str, str]:
    return {"type": kind, "message": message} if message else {"type": kind}


def _component_scaler(status: ComponentStatus, wanted: Wanted | None) -> dict[str, Any]:
    daemon = wanted is not None and wanted.rule is Rule.DAEMON
    provider = "Provider" if status.kind is Kind.PROVIDER else ""
    return {
        "id": wanted.scaler if wanted is not None else "",
        "kind": f"{provider}{'DaemonScaler' if daemon else 'SpreadScaler'}",
        "name": status.id,
        "status": _info(_WADM[status.state], status.reason.message if status.reason else ""),
    }


def _link_scaler(status: LinkStatus) -> dict[str, Any]:
    link = status.wanted.link
    return {
        "id": f"{link.source_id}/{link.target}/{link.wit_namespace}:{link.wit_package}/{link.name}",
        "kind": "LinkScaler",
        "name": f"{link.source_id} -({link.wit_namespace}:{link.wit_package})-> {link.target}",
        "status": _info(_WADM[status.state], status.reason.message if status.reason else ""),
    }


# -- ours


def described(status: AppStatus, wanted: tuple[Wanted, ...], observed: Observed) -> dict[str, Any]:
    """Components and links of one application, with their spreads, hosts and reasons."""
    by_id = {w.id: w for w in wanted}
    return {
        "state": str(status.state),
        "components": [_component(c, by_id.get(c.id), observed) for c in status.components],
        "links": [_link(link, observed) for link in status.links],
    }


def _reason(reason: Reason | None) -> dict[str, str] | None:
    return None if reason is None else {"code": reason.code, "message": reason.message, "fix": reason.fix}


def _component(status: ComponentStatus, wanted: Wanted | None, observed: Observed) -> dict[str, Any]:
    return {
        "name": status.name,
        "kind": str(status.kind),
        "id": status.id,
        "image": status.image,
        "answered_by": None if answered_by(status.image) == status.image else answered_by(status.image),
        "state": str(status.state),
        "wanted": status.wanted,
        "running": status.running,
        "reason": _reason(status.reason),
        "spreads": [] if wanted is None else [_spread(spread, status, wanted, observed) for spread in wanted.spreads],
        "hosts": [
            {
                "id": h.host,
                "name": h.friendly_name,
                "labels": dict(h.labels),
                "state": str(State.READY if h.running == h.wanted and h.image == status.image else status.state),
                "running": h.running,
                "wanted": h.wanted,
                "image": h.image,
            }
            for h in status.hosts
        ],
    }


def _spread(spread: Spread, status: ComponentStatus, wanted: Wanted, observed: Observed) -> dict[str, Any]:
    """One share of the instances: those that were started for it, and how many there should be."""
    running = 0
    for host in status.hosts:
        there = observed.hosts[host.host]
        known = there.components.get(status.id) or there.providers.get(status.id)
        if known is not None and known.annotations.get(SPREAD) == spread.name:
            running += known.count
    if wanted.rule is Rule.DAEMON:
        number = sum(host.wanted for host in status.hosts if spread.fits(host.labels))
    else:
        number = wanted.counts()[spread.name]
    return {
        "name": spread.name,
        "requirements": dict(spread.requirements),
        "state": str(State.READY if running == number else status.state),
        "wanted": number,
        "running": running,
    }


def _link(status: LinkStatus, observed: Observed) -> dict[str, Any]:
    link = status.wanted.link

    def names(hosts: tuple[Any, ...]) -> list[str]:
        return [observed.hosts[h].called for h in hosts if h in observed.hosts]

    return {
        "source": status.wanted.source,
        "target": status.wanted.target,
        "source_id": link.source_id,
        "target_id": link.target,
        "name": link.name,
        "interfaces": list(link.covers()),
        "state": str(status.state),
        "reason": _reason(status.reason),
        "same_host": bool(status.local) and not status.remote,
        "local": names(status.local),
        "remote": names(status.remote),
    }


def lattice_state(observed: Observed, last_seen: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The three maps of wadm's state bucket, which JavaScript clients list hosts from."""
    hosts: dict[str, Any] = {}
    components: dict[str, Any] = {}
    providers: dict[str, Any] = {}
    for id, host in sorted(observed.hosts.items()):
        if not host.known:
            continue
        hosts[id] = {
            "components": {c: r.count for c, r in host.components.items()},
            "friendly_name": host.friendly_name,
            "labels": dict(host.labels),
            "providers": [
                {"provider_id": p, "provider_ref": r.image, "annotations": dict(r.annotations)}
                for p, r in host.providers.items()
            ],
            "uptime_seconds": host.uptime_seconds,
            "version": host.version,
            "id": id,
            "last_seen": last_seen.get(id, ""),
        }
        for c, running in host.components.items():
            known = components.setdefault(
                c, {"id": c, "name": "", "issuer": "", "instances": {}, "reference": running.image}
            )
            known["instances"][id] = [{"annotations": dict(running.annotations), "count": running.count}]
        for p, running in host.providers.items():
            known = providers.setdefault(
                p, {"id": p, "name": "", "issuer": "", "reference": running.image, "hosts": {}}
            )
            known["hosts"][id] = "Running" if running.ailment is None else "Failed"
    return {"host": hosts, "component": components, "provider": providers}
