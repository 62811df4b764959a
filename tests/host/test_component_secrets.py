"""A component gets the secrets that its manifest refers to, from the back ends that its host has."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from host import Host, HostConfig
from lattice import EntityId, Function, Invocation, events
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker

READER = """(component
  (import "wasmcloud:secrets/store@0.1.0-draft" (instance $store
    (export "secret" (type $secret (sub resource)))
    (type $errors (variant (case "upstream" string) (case "io" string) (case "not-found")))
    (export "secrets-error" (type $error (eq $errors)))
    (type $values (variant (case "string" string) (case "bytes" (list u8))))
    (export "secret-value" (type $value (eq $values)))
    (export "get" (func (param "key" string) (result (result (own $secret) (error $error)))))))
  (alias export $store "secret" (type $secret))
  (alias export $store "secret-value" (type $value))
  (import "wasmcloud:secrets/reveal@0.1.0-draft" (instance $reveal
    (alias outer 1 $secret (type $s)) (export "secret" (type $own-secret (eq $s)))
    (alias outer 1 $value (type $v)) (export "secret-value" (type $own-value (eq $v)))
    (export "reveal" (func (param "s" (borrow $own-secret)) (result $own-value)))))
  (core module $libc (memory (export "memory") 1) (global $top (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (global.get $top))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $get (canon lower (func $store "get") (memory $memory) (realloc $realloc)))
  (core func $reveal (canon lower (func $reveal "reveal") (memory $memory) (realloc $realloc)))
  (core module $m
    (import "libc" "memory" (memory 1))
    (import "host" "get" (func $get (param i32 i32 i32)))
    (import "host" "reveal" (func $reveal (param i32 i32)))
    (func (export "read") (param i32 i32) (result i32)
      (call $get (local.get 0) (local.get 1) (i32.const 16))
      (if (i32.load8_u (i32.const 16)) (then unreachable))
      (call $reveal (i32.load (i32.const 20)) (i32.const 32))
      (i32.const 36)))
  (core instance $i (instantiate $m (with "libc" (instance $libc))
    (with "host" (instance (export "get" (func $get)) (export "reveal" (func $reveal))))))
  (func $read (param "name" string) (result string)
    (canon lift (core func $i "read") (memory $memory) (realloc $realloc)))
  (instance $api (export "read" (func $read)))
  (export "demo:secrets/api" (instance $api)))"""

READ = Function("demo:secrets/api", "read")
SHOP = EntityId("shop")


async def test_a_secret_goes_from_its_back_end_to_the_guest_and_stays_when_the_image_changes(tmp_path: Path):
    told: asyncio.Queue[events.Event] = asyncio.Queue()
    broker = MemoryBroker()
    image, other = tmp_path / "reader.wat", tmp_path / "other.wat"
    vault = tmp_path / "vault"
    vault.mkdir()
    (vault / "db").write_text("hush")
    image.write_text(READER)
    other.write_text(f"{READER}\n;; built again")
    async with (
        Host(HostConfig(secrets_folder=vault), broker.connect()) as host,
        await Lattice("default", broker.connect()).start() as lattice,
    ):
        await lattice.on_events(lambda _, event: told.put_nowait(event))

        async def put(key: str, backend: str = "files") -> None:
            reference = {"name": "password", "backend": backend, "key": key}
            await lattice.control("config", "put", "SECRET_password", body=reference)

        async def scaled(file: Path) -> events.Event:
            request = {"component_id": SHOP, "component_ref": file.as_uri(), "count": 1, "allow_update": True}
            await lattice.control("component", "scale", host.id, body={**request, "config": ["SECRET_password"]})
            while True:
                event = await asyncio.wait_for(told.get(), 20)
                if isinstance(event, events.ComponentScaled | events.ComponentScaleFailed):
                    return event

        async def read() -> object:
            return await lattice.invoke(Invocation(SHOP, READ, ("password",)).within(5))

        for key, backend, code, said in (
            ("db", "elsewhere", "TRL-SEC-001", "a back end that this host does not have (it has env, files)"),
            ("gone", "files", "TRL-SEC-002", "`files` has no `gone`"),
        ):
            await put(key, backend)
            failed = await scaled(image)
            assert isinstance(failed, events.ComponentScaleFailed)
            assert failed.error.startswith(f'{code}: secret `password` of "shop"') and said in failed.error
        await put("db")
        assert isinstance(await scaled(image), events.ComponentScaled)
        assert await read() == "hush"
        await scaled(other)
        assert await read() == "hush"
        assert "hush" not in json.dumps(host.components.running[SHOP].actor.config)
        sent: list[Mapping[str, object]] = []
        host.journal.readers.append(sent.append)
        host.journal.add({"event": "component.wrote", "level": "info", "component": SHOP, "line": "it is hush"})
        assert sent[0]["line"] == "it is ***", "what a host sends of its log does not have it either"
