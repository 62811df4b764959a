"""wasi:config in all the shapes that guests were built against, and wasmcloud:secrets without a leak."""

from __future__ import annotations

import pytest

from actors.actor import Actor
from actors.guest import Guest
from actors.wasi.secrets import Reveal, Store
from lattice import EntityId, Function, Invocation, Unreachable, WitError

ACTOR = EntityId("shop")

CONFIG = """(component
  (import "wasi:config/INTERFACE" (instance $config
    TYPES
    (export "get" (func (param "key" string) (result GET)))
    (export "get-all" (func (result ALL)))))
  (core module $libc (memory (export "memory") 1) (global $top (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $get (canon lower (func $config "get") (memory $memory) (realloc (core func $libc "realloc"))))
  (core func $get-all (canon lower (func $config "get-all") (memory $memory) (realloc (core func $libc "realloc"))))
  (core module $guest
    (import "libc" "memory" (memory 1))
    (import "config" "get" (func $get (param i32 i32 i32)))
    (import "config" "get-all" (func $get-all (param i32)))
    (func (export "get") (param i32 i32) (result i32)
      (call $get (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16))
    (func (export "get-all") (result i32) (call $get-all (i32.const 48)) (i32.const 48)))
  (core instance $guest (instantiate $guest (with "libc" (instance $libc))
    (with "config" (instance (export "get" (func $get)) (export "get-all" (func $get-all))))))
  (alias export $config "ERROR" (type $error))
  (func (export "get") (param "key" string) (result GET)
    (canon lift (core func $guest "get") (memory $memory) (realloc (core func $libc "realloc"))))
  (func (export "get-all") (result ALL)
    (canon lift (core func $guest "get-all") (memory $memory) (realloc (core func $libc "realloc")))))"""


def component(interface: str, error: str | None) -> bytes:
    """Passes `get` and `get-all` of wasi:config on. `error` is the name of the error type, None: there is none."""
    get, every = "(option string)", "(list (tuple string string))"
    types = alias = ""
    if error is not None:
        get, every = f"(result {get} (error $error))", f"(result {every} (error $error))"
        types = (
            '(type $cases (variant (case "upstream" string) (case "io" string)))'
            f'(export "{error}" (type $error (eq $cases)))'
        )
        alias = f'(alias export $config "{error}" (type $error))'
    return (
        CONFIG.replace("INTERFACE", interface)
        .replace("TYPES", types)
        .replace('(alias export $config "ERROR" (type $error))', alias)
        .replace("GET", get)
        .replace("ALL", every)
        .encode()
    )


@pytest.mark.parametrize(
    ("interface", "error"),
    [
        ("runtime@0.2.0-draft", "config-error"),
        ("store@0.2.0-draft", "error"),
        ("store@0.2.0-rc.1", "error"),
        ("store@0.2.0-draft-2024-09-27", "error"),
        ("store@0.2.0-rc.2", None),
    ],
)
async def test_config_is_served_in_every_shape_it_had(engine, deployed, interface, error):
    actor: Actor = deployed(ACTOR, await engine.load(component(interface, error)), config={"b": "2", "a": "1"})
    assert [i.how for i in actor.component.describe().imports] == ["served"]

    async def call(name: str, *args: str) -> object:
        return await actor.handle(Invocation(ACTOR, Function("", name), args))

    assert await call("get", "a") == "1"
    assert await call("get", "z") is None
    assert await call("get-all") == [("a", "1"), ("b", "2")]


# -- secrets

VALUES = {"password": "hush", "key": b"hush\xff"}


async def trusted(name: str) -> str | bytes | None:
    if name == "far":
        raise Unreachable("no vault answers")
    return VALUES.get(name)


async def test_a_secret_is_revealed_as_what_it_is():
    guest = Guest(ACTOR, secrets=trusted)
    assert Reveal.reveal(guest, await Store.get(guest, "password")) == {"string": "hush"}
    assert Reveal.reveal(guest, await Store.get(guest, "key")) == {"bytes": b"hush\xff"}


async def test_a_secret_that_was_not_given_is_not_found():
    for guest in (Guest(ACTOR), Guest(ACTOR, secrets=trusted)):
        with pytest.raises(WitError) as answer:
            await Store.get(guest, "other")
        assert answer.value.payload == "not-found"


async def test_a_back_end_that_cannot_be_asked_is_an_answer_too():
    with pytest.raises(WitError) as answer:
        await Store.get(Guest(ACTOR, secrets=trusted), "far")
    assert answer.value.payload == {"upstream": "no vault answers"}


async def test_secrets_show_their_names_and_never_their_values():
    guest = Guest(ACTOR, secrets=trusted)
    for name in VALUES:
        secret = await Store.get(guest, name)
        assert name in repr(secret) and "hush" not in f"{secret!r} {secret}"
