"""A guest that uses what hosts and providers offer, each in a module of its own: one component, compiled once."""

import json

import blobs
import files
import wit_world
from messages import Handler
from network import Sockets

__all__ = ["Handler", "Sockets", "WitWorld"]


class WitWorld(wit_world.WitWorld):
    def attempt(self, name: str) -> str:
        module, _, what = name.partition(".")
        return json.dumps(getattr({"blobs": blobs, "files": files}[module], f"try_{what}")())
