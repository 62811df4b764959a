"""A plan's commands as requests of the control interface."""

from __future__ import annotations

from typing import assert_never

from lattice import control as ctl
from lattice.control import Reply
from lattice.lattice import Lattice
from lattice.links import LinkKey
from wadm.commands import (
    Command,
    DeleteConfig,
    DeleteLink,
    PutConfig,
    PutLink,
    ScaleComponent,
    StartProvider,
    StopProvider,
)


async def request(lattice: Lattice, command: Command) -> Reply:
    """Send it, and what is answered. Raises LatticeError."""
    control = lattice.control
    match command:
        case PutConfig(name, data):
            return await control("config", "put", name, body=dict(data))
        case DeleteConfig(name):
            return await control("config", "del", name)
        case PutLink(link):
            return await control("link", "put", body=link)
        case DeleteLink(link):
            key = LinkKey(
                source_id=link.source_id,
                name=link.name,
                wit_namespace=link.wit_namespace,
                wit_package=link.wit_package,
                target=link.target,
            )
            return await control("link", "del", body=key)
        case ScaleComponent(host, id, image, count, annotations, config, limits, update, config_data):
            scale = ctl.ScaleComponent.model_validate(
                {
                    "component_id": id,
                    "component_ref": image,
                    "annotations": dict(annotations),
                    "count": count,
                    "component_limits": None if limits is None else dict(limits),
                    "host_id": host,
                    "config": list(config),
                    "allow_update": update,
                    "config_data": {name: dict(data) for name, data in config_data.items()},
                }
            )
            return await control("component", "scale", host, body=scale)
        case StartProvider(host, id, image, annotations, config, instead):
            start = ctl.StartProvider(
                provider_id=id,
                provider_ref=image,
                annotations=dict(annotations),
                host_id=host,
                config=list(config),
                replace=instead,
            )
            return await control("provider", "start", host, body=start)
        case StopProvider(host, id):
            stop = ctl.StopProvider.model_validate({"provider_id": id, "host_id": host})
            return await control("provider", "stop", host, body=stop)
        case _:
            assert_never(command)


def is_about_state(message: str) -> bool:
    """The host did not mind the command, it only has (or has not) what we thought."""
    gone = message.startswith("component ") and message.endswith(" not found")
    return gone or any(said in message for said in ("already running", "not running", "already updated"))
