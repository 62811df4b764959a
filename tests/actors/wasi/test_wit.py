"""The WIT we ship and the host functions we serve say the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import actors.wasi  # noqa: F401  registers the interfaces
from actors.actor import Actor
from actors.host_api import SERVED
from actors.signatures import drafts, served
from lattice import BadInput, EntityId, Function, Invocation, WitError
from lattice.types import InterfaceType

GUESTS_SIDE = {
    "wasi:cli/run",
    "wasi:http/incoming-handler",
    "wasi:keyvalue/watcher",
    "wasmcloud:messaging/handler",
}
"""Interfaces that guests export."""

UNSTABLE = {
    "wasi:cli/exit#exit-with-code",
    "wasi:clocks/timezone#display",
    "wasi:clocks/timezone#utc-offset",
    "wasi:sockets/network#network-error-code",
}
"""Functions of WASI 0.2 that guests may import all the same; the WIT to build against is without them."""


def every() -> dict[str, InterfaceType]:
    """By key; drafts that are otherwise than all the others by their names."""
    return {**served(), **drafts()}


def functions() -> Iterator[tuple[str, str]]:
    """(interface without version, function) of all the WIT there is, as components name them."""
    for key, interface in every().items():
        yield from ((key, name) for name in interface.functions)


def test_there_is_something_to_compare():
    assert ("wasi:io/streams", "[method]input-stream.blocking-read") in set(functions())
    assert ("wasi:http/types", "[static]response-outparam.set") in set(functions())
    assert len(set(functions())) > 150


def goes_through_links(interface: str) -> bool:
    """Without resources it needs no code of the host's; but WASI is the host's own affair."""
    signatures = every()[interface].functions.values()
    return not interface.startswith("wasi:") and not any(signature.handles() for signature in signatures)


def test_every_function_a_guest_can_call_is_served():
    missing = []
    for interface, name in functions():
        host = SERVED.get(interface)
        if interface in GUESTS_SIDE or (host is None and goes_through_links(interface)):
            continue
        if host is None or host.find(name) is None:
            missing.append(f"{interface}#{name}")
    assert missing == []


def reachable(cls: type) -> Iterator[tuple[str, str]]:
    """(the name in Python, the name in WIT) of what a guest might ask for in `cls`."""
    for name in dir(cls):
        if not name.startswith("_"):
            yield name, name.rstrip("_").replace("_", "-")


def test_nothing_else_is_within_a_guests_reach():
    known = set(functions())
    beyond = []
    for host in SERVED.values():
        if not host.name.startswith(("wasi:", "wasmcloud:")):
            continue
        for _, name in reachable(host.functions):
            if host.find(name) is not None and (host.name, name) not in known:
                beyond.append(f"{host.name}#{name}")
        for resource, cls in host.resources.items():
            for python, name in reachable(cls):
                names = [f"{kind}{resource}.{name}" for kind in ("[method]", "[static]")]
                names += [f"[constructor]{resource}"] if python == "new" else []
                found = any(host.find(one) is not None for one in names)
                if found and not any((host.name, one) in known for one in names):
                    beyond.append(f"{host.name}#{names[0]}")
    assert set(beyond) == UNSTABLE


def test_every_resource_belongs_to_the_interface_that_serves_it():
    for interface in SERVED.values():
        for name, resource in interface.resources.items():
            assert (resource.wit_interface, resource.wit_name) == (interface.name.partition("@")[0], name)


OTHERWISE = {
    "kv": (
        "wasi:keyvalue/store@0.2.0-draft2",
        "open",
        '(param "identifier" string)',
        "open: func(identifier: string)",
        "open: func(identifier: string) -> result<bucket, error>",
    ),
    "clock": (
        "wasi:clocks/monotonic-clock@0.2.0",
        "now",
        "(result u32)",
        "now: func() -> u32",
        "now: func() -> u64",
    ),
    "inside": (
        "wasi:logging/logging@0.1.0-draft",
        "log",
        """(param "level" $level) (param "context" string) (param "message" string)""",
        "log: func(level: level, context: string, message: string)",
        "another `level`",
    ),
}


@pytest.mark.parametrize("kind", OTHERWISE)
async def test_a_served_function_with_other_types_is_refused_before_it_is_called(engine, kind):
    interface, name, types, shown, ours = OTHERWISE[kind]
    loud = '(type $l (enum "loud" "silent")) (export "level" (type $level (eq $l)))'
    wat = f"""(component (import "{interface}" (instance {loud} (export "{name}" (func {types})))))"""
    with pytest.raises(BadInput) as caught:
        Actor(EntityId("subject"), await engine.load(wat.encode()))
    (finding,) = caught.value.findings
    assert (finding.code, finding.message) == ("TRL-LNK-010", f"<bytes> imports {interface}#{shown}")
    assert finding.why == f"this host has {ours}"


SHAPES = {
    "config": ("wasi:config/store@0.2.0-rc.9", "get", '(param "key" string) (result (option string))'),
    "bus 1": ("wasmcloud:bus/lattice@1.0.0", "set-link-name", '(param "name" string) (param "interfaces" $targets)'),
    "bus 2": (
        "wasmcloud:bus/lattice@2.0.1",
        "set-link-name",
        '(param "link-name" string) (param "interfaces" $targets) (result (result (error string)))',
    ),
}


@pytest.mark.parametrize("kind", SHAPES)
async def test_what_had_several_shapes_is_served_in_all_of_them(engine, kind):
    interface, name, types = SHAPES[kind]
    target = '(export "call-target-interface" (type $target (sub resource))) (type $targets (list (own $target)))'
    wat = f"""(component (import "{interface}" (instance {target} (export "{name}" (func {types})))))"""
    Actor(EntityId("subject"), await engine.load(wat.encode()))


# -- versions

TELLS = """(component
  (import "INTERFACE" (instance $far (export "FUNCTION" (func (result u64)))))
  (alias export $far "FUNCTION" (func $f))
  (core func $f-core (canon lower (func $f)))
  (core module $m (import "far" "f" (func $f (result i64))) (func (export "run") (result i64) (call $f)))
  (core instance $i (instantiate $m (with "far" (instance (export "f" (func $f-core))))))
  (func (export "run") (result u64) (canon lift (core func $i "run"))))"""


def tells(interface: str, function: str) -> bytes:
    """A component whose `run` gives what the function gives."""
    return TELLS.replace("INTERFACE", interface).replace("FUNCTION", function).encode()


@pytest.mark.parametrize("patch", [0, 1, 2, 3, 4, 5, 6, 7, 8, 12])
async def test_every_patch_of_wasi_0_2_is_served(engine, deployed, patch):
    actor: Actor = deployed(
        EntityId("clock"), await engine.load(tells(f"wasi:clocks/monotonic-clock@0.2.{patch}", "now"))
    )
    assert await actor.handle(Invocation(actor.id, Function("", "run"))) > 0


@pytest.mark.parametrize(("seed", "different"), [(7, 1), (None, 3)])
async def test_random_is_repeatable_from_one_invocation_to_the_next_with_a_seed_only(engine, deployed, seed, different):
    component = await engine.load(tells("wasi:random/random@0.2.0", "get-random-u64"))
    actor: Actor = deployed(EntityId("dice"), component, seed=seed)
    drawn = [await actor.handle(Invocation(actor.id, Function("", "run"))) for _ in range(3)]
    assert len(set(drawn)) == different


# -- wasi:cli/run, the export of commands

COMMAND = """(component
  (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
  (core func $exit (canon lower (func $exit "exit")))
  (core module $m
    (import "host" "exit" (func $exit (param i32)))
    (func (export "run") (result i32) BODY))
  (core instance $i (instantiate $m (with "host" (instance (export "exit" (func $exit))))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))"""


@pytest.mark.parametrize(
    ("body", "fails"),
    [
        ("i32.const 0", False),
        ("i32.const 1", True),
        ("(call $exit (i32.const 0)) unreachable", False),
        ("(call $exit (i32.const 1)) unreachable", True),
    ],
)
async def test_a_command_returns_or_exits(engine, deployed, body, fails):
    actor: Actor = deployed(EntityId("command"), await engine.load(COMMAND.replace("BODY", body).encode()))
    run = Invocation(actor.id, Function("wasi:cli/run", "run"))
    if fails:
        with pytest.raises(WitError):
            await actor.handle(run)
    else:
        assert await actor.handle(run) is None
