"""`trellis scale`: an instance count that is recorded on the deployed version, in place of the manifest's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import structlog

from wadm.meaning import MOST_INSTANCES
from wadm.store import Store
from wadm.world import World

log = structlog.get_logger("wadm")


class Unscalable(Exception):
    """What was asked for cannot be: the message says why."""


async def scale(store: Store, world: World, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Record `{"app", "component", "instances": number, or null to take it back}`. Raises Unscalable, StorageError."""
    try:
        app, component, instances = str(asked["app"]), str(asked["component"]), asked["instances"]
    except KeyError:
        raise Unscalable('the request must be {"app": name, "component": name, "instances": number or null}') from None
    number = isinstance(instances, int) and not isinstance(instances, bool)
    if instances is not None and not (number and 0 <= instances <= MOST_INSTANCES):
        said = json.dumps(instances)
        raise Unscalable(f"`instances` is {said}; it must be 0 to {MOST_INSTANCES}, or null for the manifest's own")
    stored = await store.get(app)
    manifest = stored.deployed if stored is not None else None
    if stored is None or manifest is None or stored.deployed_version is None:
        raise Unscalable(f"application {app} is not deployed on lattice {store.lattice}")
    known = manifest.component(component)
    if known is None or known.properties.image is None:
        names = ", ".join(c.name for c in manifest.spec.components if c.properties.image is not None)
        raise Unscalable(f"application {app} runs no component {component}; it has {names}")
    recorded = await store.override(app, stored.deployed_version, component, instances)
    world.overridden(app, recorded)
    log.info("component.override_recorded", app=app, component=component, instances=instances)
    if instances is None:
        told = f"{component} goes back to what the manifest says"
    else:
        told = f"override recorded on {stored.deployed_version}: {component} runs {instances} instances"
    return {"message": told, "version": stored.deployed_version, "overrides": dict(recorded.instances)}
