"""Every subject on the wire, in one place. `lattice` is one NATS token."""

from __future__ import annotations

import os

from lattice.names import EntityId, HostId

CTL_PREFIX = os.environ.get("TRELLIS_CTL_PREFIX") or "wasmbus.ctl"
"""As a lattice of v1 has it, whose hosts and clients must all have the same."""
EVENT_PREFIX = "wasmbus.evt"
WADM_PREFIX = "wadm.api"
WADM_QUEUE = "wadm_server"


def control(lattice: str, *tokens: str) -> str:
    """wasmCloud control interface v1: `wasmbus.ctl.v1.{lattice}.{entity}.{verb}[.{arg}]`."""
    return ".".join((CTL_PREFIX, "v1", lattice, *tokens))


def control_queue(lattice: str, entity: str) -> str:
    """The queue group of the verbs that any one host answers: `link`, `claims`, `config`."""
    return f"{CTL_PREFIX}.v1.{lattice}.{entity}"


def config_service(lattice: str) -> str:
    """Where hosts of v1 ask at their start for the logins of registries."""
    return f"wasmbus.cfg.{lattice}.req"


def event(lattice: str, name: str) -> str:
    return f"{EVENT_PREFIX}.{lattice}.{name}"


def lattice_data(lattice: str) -> str:
    return f"LATTICEDATA_{lattice}"


def config_data(lattice: str) -> str:
    return f"CONFIGDATA_{lattice}"


def images(lattice: str) -> str:
    """Our own bucket: components that were deployed from somebody's disk."""
    return f"TRELLIS_IMAGES_{lattice}"


def secrets(lattice: str) -> str:
    """Our own bucket: sealed secrets."""
    return f"TRELLIS_SECRETS_{lattice}"


# -- ours: beside the standard subjects, never inside them


def rpc(lattice: str, entity: EntityId) -> str:
    """Calls of `entity`, on whichever host runs it (queue group of the same name)."""
    return f"trellis.rpc.{lattice}.{entity}"


def rpc_at(lattice: str, entity: EntityId, host: HostId) -> str:
    """Calls of `entity` on one host."""
    return f"trellis.rpc.{lattice}.{entity}.{host}"


def called(lattice: str, subject: str) -> EntityId | None:
    """Whom a message on `subject` calls; None when it is no call."""
    start = f"trellis.rpc.{lattice}."
    return EntityId(subject[len(start) :].partition(".")[0]) if subject.startswith(start) else None


def cancel(lattice: str, entity: EntityId) -> str:
    """Ids of calls of `entity` that nobody waits for any more, to every host that serves it."""
    return f"trellis.cancel.{lattice}.{entity}"


def in_hand(lattice: str, entity: EntityId) -> str:
    """Asks all who serve `entity` which calls they have in hand: `lattice.recovery`."""
    return f"trellis.inhand.{lattice}.{entity}"


def alive(lattice: str) -> str:
    """The light sign of life, beside the standard heartbeat: each host's id, every second."""
    return f"trellis.alive.{lattice}"


def provider(lattice: str, entity: EntityId, host: HostId, verb: str) -> str:
    """Between a host and a provider process it started: `link.put`, `link.del`, `config`, `health`, `stop`, `ready`."""
    return f"trellis.provider.{lattice}.{entity}.{host}.{verb}"


def description(lattice: str, entity: EntityId) -> str:
    """Asks a provider, wherever it runs, what it is."""
    return f"trellis.provider.{lattice}.{entity}.describe"


def logs(lattice: str, member: str) -> str:
    """What a host or manager logs, and what is logged on it."""
    return f"trellis.log.{lattice}.{member}"


def figures(lattice: str) -> str:
    """Asks all hosts what they have counted (`lattice.figures`)."""
    return f"trellis.figures.{lattice}"


def log_stream(lattice: str) -> str:
    """Our own stream: the log lines of a day."""
    return f"TRELLIS_LOGS_{lattice}"


def traces(lattice: str) -> str:
    """Questions to everybody who observes calls: `lattice.traces`."""
    return f"trellis.traces.{lattice}"


def tap(lattice: str) -> str:
    """Wishes to see calls as they end: `lattice.tap`."""
    return f"trellis.tap.{lattice}"


def manager(lattice: str, verb: str) -> str:
    """The deployment manager's own API beside wadm's: `explain`, `history`, `plan`, `scale`, `status`."""
    return f"trellis.manager.{lattice}.{verb}"
