"""An interface to be called by hand."""

import sys

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.people import Person
from wit_world.imports import atomics, wasi_keyvalue_store


class People(exports.People):
    def visit(self, who: Person) -> int:
        if who.age < 18:
            raise Err(f"{who.name} is too young")
        return atomics.increment(wasi_keyvalue_store.open("default"), who.name, 1)

    def older(self, who: Person, years: int) -> Person:
        print("thinking", file=sys.stderr)  # noqa: T201
        return Person(who.name, who.age + years, who.mood)

    def fail(self, why: str) -> None:
        raise RuntimeError(why)
