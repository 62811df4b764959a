"""What the manager answers beside wadm's API: how all stands and why, what a manifest would change, what was."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import structlog

from lattice import LatticeError, read_json
from lattice.transport import Message
from wadm.desired import Desired, desired_from
from wadm.explain import explain
from wadm.manifest import Manifest
from wadm.plan import AppStatus
from wadm.preview import preview
from wadm.reasons import State
from wadm.scaling import Unscalable, scale
from wadm.status import described
from wadm.store import Store, description_of
from wadm.telling import utc
from wadm.validate import check
from wadm.world import World

log = structlog.get_logger("wadm")


@dataclass(frozen=True, slots=True)
class Who:
    """The manager that answers; `holder` is the one that acts, where that is known."""

    id: str
    acting: bool
    holder: str | None


class Refusal(Exception):
    """The request is answered with `success: false` and this sentence."""


class Answers:
    """Each method answers the body of one request with the body of its answer. Only `scale` changes something."""

    def __init__(
        self, store: Store, world: World, who: Callable[[], Who], since: Mapping[str, tuple[str, str]]
    ) -> None:
        """`since` is the state of each application, and since when it has that."""
        self.store = store
        self.world = world
        self.who = who
        self.since = since

    def served(self) -> Mapping[str, Callable[[Message], Awaitable[bytes]]]:
        """Handlers by the last token of their subject."""
        methods = (self.status, self.scale, self.plan, self.explain, self.history)
        return {method.__name__: partial(self._answered, method) for method in methods}

    async def _answered(
        self, method: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]], message: Message
    ) -> bytes:
        try:
            asked = read_json(message.data) if message.data.strip() else {}
            if not isinstance(asked, dict):
                raise Refusal("the request must be a JSON object")
            body = {"success": True, **await method(asked)}
        except ValueError as error:
            body = {"success": False, "message": f"the request must be a JSON object: {error}"}
        except (Refusal, Unscalable) as error:
            body = {"success": False, "message": str(error)}
        except LatticeError as error:
            body = {"success": False, "message": error.message}
        except Exception as error:
            log.exception("request.failed", subject=message.subject)
            body = {"success": False, "message": f"internal error: {type(error).__name__}: {error}"}
        return json.dumps(body).encode()

    # -- status

    async def status(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """`{"app": name, or null for all}`: applications down to each instance, with reasons, and the hosts."""
        world, name, lattice = self.world, asked.get("app"), self.store.lattice
        names = sorted(set(world.apps) | world.plan.leaving | {n for n in world.kept if world.used_by(n)})
        if name is not None:
            if name not in names:
                known = f"; there are {', '.join(names)}" if names else "; nothing was ever put"
                raise Refusal(f"there is no application {name} on lattice {lattice}{known}")
            names = [name]
        now, observed = world.clock(), world.observed
        hosts = [
            {
                "id": host.id,
                "name": host.friendly_name,
                "labels": dict(host.labels),
                "alive": observed.is_alive(host, now),
                "seconds_since_seen": round(now - host.last_seen, 1),
            }
            for _, host in sorted(observed.hosts.items())
            if host.known
        ]
        apps = [self._described(n) for n in names]
        return {"lattice": lattice, "manager": asdict(self.who()), "apps": apps, "hosts": hosts}

    def _described(self, name: str) -> dict[str, Any]:
        world = self.world
        stored, desired = world.apps.get(name), world.desired
        status = world.plan.apps.get(name, AppStatus(State.STOPPED))
        deployed = stored is not None and stored.deployed_version is not None and name not in world.unplanned
        word = world.word(name)
        known, since = self.since.get(name, ("", ""))
        override = world.overrides.get(name)
        counts: Mapping[str, int] = {}
        if override is not None and stored is not None and override.version == stored.deployed_version:
            counts = override.instances
        configs = sorted(n for n, owner in desired.owners.items() if owner == name)
        used = {c for w in desired.of(name) for c in w.config} | {
            c for link in desired.links_of(name) for c in (*link.link.source_config, *link.link.target_config)
        }
        shown = status if deployed else AppStatus(State.STOPPED)
        return {
            **described(shown, desired.of(name), world.observed),
            "name": name,
            "description": stored.description if stored is not None else None,
            "version": stored.deployed_version if stored is not None else None,
            "latest_version": stored.latest if stored is not None else None,
            "state": word,
            "since": since if known == word else utc(),
            "leaving": name in world.plan.leaving,
            "kept": [{"name": c, "used_by": list(apps)} for c, apps in world.used_by(name).items()],
            "overrides": dict(counts),
            "configs": [
                {"name": c, "managed": c in configs, "present": c in world.observed.configs}
                for c in sorted(used | set(configs))
            ],
        }

    # -- scale

    async def scale(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Record an instance count (`wadm.scaling`)."""
        return await scale(self.store, self.world, asked)

    # -- plan

    async def plan(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """`{"manifest": data}`, or `{"app": name, "version": stored version}`: what deploying it would do."""
        data = asked.get("manifest")
        if isinstance(data, dict):
            checked = check(json.dumps(data), "manifest")
            if checked.manifest is None:
                raise Refusal("\n\n".join(f.render() for f in checked.errors))
            new, version = checked.manifest, checked.manifest.version
        else:
            new, version = await self._stored_version(_text(asked, "app"), asked.get("version"))
        stored = await self.store.get(new.name)
        parts = self.world.parts()
        old = stored.deployed if stored is not None else None
        from_version = stored.deployed_version if stored is not None else None
        same = old is not None and _unversioned(old) == _unversioned(new)
        before = self._desired(old, from_version) if old is not None else Desired()
        after = self._desired(new, from_version if same else None)
        others = [part for name, part in parts.items() if name != new.name]
        world = self.world
        found = preview(before, after, others, world.put, world.observed, world.clock())
        return {
            "app": new.name,
            "from": from_version,
            "to": from_version if same and version is None else version,
            "changed": bool(found.changes) or not same,
            "changes": [asdict(change) for change in found.changes],
            "placement": [
                {
                    "name": p.name,
                    "kind": str(p.kind),
                    "hosts": [{"name": host, "instances": number} for host, number in p.hosts],
                    "answered_by": p.answered,
                }
                for p in found.placement
            ],
            "links": [asdict(way) for way in found.links],
            "problems": [asdict(problem) for problem in found.problems],
        }

    async def _stored_version(self, app: str, version: Any) -> tuple[Manifest, str]:
        stored = await self.store.get(app)
        if stored is None:
            raise Refusal(f"there is no application {app}")
        wanted = stored.latest if version is None else str(version)
        if wanted not in stored.manifests:
            known = ", ".join(stored.manifests)
            raise Refusal(f"application {app} has no version {wanted}; there are {known}")
        manifest = stored.manifest(wanted)
        if manifest is None:
            raise Refusal(f"version {wanted} of application {app} cannot be read any more")
        return manifest, wanted

    def _desired(self, manifest: Manifest, version: str | None) -> Desired:
        """With the overrides that are recorded on `version`."""
        override = self.world.overrides.get(manifest.name)
        counts = override.instances if override is not None and override.version == version else {}
        return desired_from(manifest, counts, self.world.shared())

    # -- why

    async def explain(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """`{"app": name, "thing": component or "source -> target", or null for all that is not ready}`."""
        app, thing = _text(asked, "app"), asked.get("thing")
        parts = self.world.parts()
        if not parts.get(app, Desired()).apps:
            stored = app in self.world.apps
            raise Refusal(f"application {app} is not deployed" if stored else f"there is no application {app}")
        names = sorted({w.name for w in parts[app].wanted} | {link.called for link in parts[app].links})
        wanted = None if thing is None else str(thing)
        if wanted is not None and wanted not in names:
            raise Refusal(f"application {app} has no {wanted}; it has {', '.join(names)}")
        world = self.world
        found = explain(parts, world.put, world.observed, world.clock(), app, wanted)
        return {"app": app, "things": [asdict(one) for one in found]}

    # -- history

    async def history(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """`{"app": name}`: its stored versions, oldest first, and every deployment that is remembered."""
        app = _text(asked, "app")
        stored = await self.store.get(app)
        if stored is None:
            raise Refusal(f"there is no application {app}")
        deployments = await self.store.deployments(app)
        last = {d["version"]: d for d in deployments}
        return {
            "app": app,
            "versions": [
                {
                    "version": version,
                    "deployed": version == stored.deployed_version,
                    "description": description_of(data),
                    "deployed_at": last[version]["at"] if version in last else None,
                    "note": last[version]["note"] if version in last else None,
                }
                for version, data in stored.manifests.items()
            ],
            "deployments": deployments,
        }


def _text(asked: Mapping[str, Any], key: str) -> str:
    value = asked.get(key)
    if not isinstance(value, str) or not value:
        raise Refusal(f"the request names no {key}")
    return value


def _unversioned(manifest: Manifest) -> Manifest:
    annotations = {k: v for k, v in manifest.metadata.annotations.items() if k != "version"}
    return manifest.model_copy(update={"metadata": manifest.metadata.model_copy(update={"annotations": annotations})})
