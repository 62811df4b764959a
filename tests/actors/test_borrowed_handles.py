"""Host functions that are lent several of the guest's handles at once."""

from __future__ import annotations

import pytest
from tests_support import MakeActor, call

from actors.callbacks import CALLERS
from actors.guest import Guest
from actors.host_api import Resource, serves


class Thing(Resource, interface="test:host/things", name="thing"):
    pass


@serves("test:host/things", Thing)
class Things:
    @staticmethod
    def make(guest: Guest) -> Thing:
        return Thing()

    @staticmethod
    def both(guest: Guest, one: Thing, other: Thing) -> int:
        return 1 if one is other else 2

    @staticmethod
    async def both_at_leisure(guest: Guest, one: Thing, other: Thing) -> int:
        return 1 if one is other else 2

    @staticmethod
    def all(guest: Guest, things: list[Thing]) -> int:
        return len(set(things))


BORROWS = """(component
  (import "test:host/things" (instance $things
    (export "thing" (type $thing (sub resource)))
    (export "make" (func (result (own $thing))))
    (export "FUNCTION" (func PARAMETERS (result u32)))))
  (core module $libc (memory (export "memory") 1))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $make (canon lower (func $things "make")))
  (core func $lend (canon lower (func $things "FUNCTION") (memory $memory)))
  (core module $m
    (import "libc" "memory" (memory 1))
    (import "host" "make" (func $make (result i32)))
    (import "host" "lend" (func $lend (param i32 i32) (result i32)))
    (func (export "run") (result i32) (local $one i32) (local $other i32)
      (local.set $one (call $make))
      (local.set $other (call $make))
      BODY))
  (core instance $m (instantiate $m
    (with "libc" (instance $libc))
    (with "host" (instance (export "make" (func $make)) (export "lend" (func $lend))))))
  (func (export "run") (result u32) (canon lift (core func $m "run"))))"""
PAIR = '(param "one" (borrow $thing)) (param "other" (borrow $thing))'


@pytest.mark.parametrize("function", ["both", "both-at-leisure"])
@pytest.mark.parametrize(("other", "answer"), [("one", 1), ("other", 2)])
async def test_two_handles_are_lent_at_once(actor_of: MakeActor, function: str, other: str, answer: int) -> None:
    wat = BORROWS.replace("FUNCTION", function).replace("PARAMETERS", PAIR)
    body = (
        f"(drop (call $lend (local.get $one) (local.get ${other}))) (call $lend (local.get $one) (local.get ${other}))"
    )
    actor = await actor_of(wat.replace("BODY", body))
    assert await actor.handle(call("run")) == answer
    assert not CALLERS


async def test_a_list_of_handles_is_lent_at_once(actor_of: MakeActor) -> None:
    wat = BORROWS.replace("FUNCTION", "all").replace("PARAMETERS", '(param "things" (list (borrow $thing)))')
    body = """(i32.store (i32.const 0) (local.get $one)) (i32.store (i32.const 4) (local.get $other))
      (i32.store (i32.const 8) (local.get $one)) (call $lend (i32.const 0) (i32.const 3))"""
    actor = await actor_of(wat.replace("BODY", body))
    assert await actor.handle(call("run")) == 2
