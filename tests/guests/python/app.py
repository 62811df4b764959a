"""A guest that uses what hosts and providers offer, each in a module of its own: one component, compiled once."""

import json

import blobs
import files
import wit_world
from command import Run
from messages import Handler
from network import Sockets
from people import People
from transform import Transform
from watcher import Watcher
from web import IncomingHandler

__all__ = ["Handler", "IncomingHandler", "People", "Run", "Sockets", "Transform", "Watcher", "WitWorld"]


class WitWorld(wit_world.WitWorld):
    def attempt(self, name: str) -> str:
        module, _, what = name.partition(".")
        return json.dumps(getattr({"blobs": blobs, "files": files}[module], f"try_{what}")())
