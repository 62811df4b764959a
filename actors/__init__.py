"""One component, run well: knows Wasm, not the network."""

from actors.actor import Actor
from actors.adapters import ADAPTERS, Adapter
from actors.codec import GuestResource
from actors.component import Component, ComponentDescription, FunctionDescription, InterfaceDescription
from actors.engine import Engine, EngineConfig
from actors.guest import Guest
from actors.instance import Instance
from actors.limits import Limits
from actors.session import Session

__all__ = [
    "ADAPTERS",
    "Actor",
    "Adapter",
    "Component",
    "ComponentDescription",
    "Engine",
    "EngineConfig",
    "FunctionDescription",
    "Guest",
    "GuestResource",
    "Instance",
    "InterfaceDescription",
    "Limits",
    "Session",
]
