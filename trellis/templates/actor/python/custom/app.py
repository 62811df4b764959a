"""Answers an interface of its own: wit/world.wit says which."""

from componentize_py_types import Err
from wit_world import exports


class Greeter(exports.Greeter):
    def greet(self, name: str) -> str:
        if not name:
            raise Err("there is nobody to greet")
        return f"hello {name}"
