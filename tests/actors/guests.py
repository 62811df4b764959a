"""Components written by hand, so that the engine's tests need no toolchain."""

from __future__ import annotations

from pathlib import Path

COMPUTE = """(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "spin") (loop $l (br $l)))
    (func (export "trap") unreachable)
    (func $recurse (export "recurse") (call $recurse))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "divide") (param i32 i32) (result i32) (i32.div_u (local.get 0) (local.get 1)))
    (func (export "work") (param i32) (result i32) (local $i i32)
      (loop $l
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (local.get 0))))
      (local.get $i)))
  (core instance $i (instantiate $m))
  (func (export "spin") (canon lift (core func $i "spin")))
  (func (export "trap") (canon lift (core func $i "trap")))
  (func (export "recurse") (canon lift (core func $i "recurse")))
  (func (export "grow") (param "pages" u32) (result s32) (canon lift (core func $i "grow")))
  (func (export "divide") (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "divide")))
  (func $work (param "turns" u32) (result u32) (canon lift (core func $i "work")))
  (instance $worker (export "work" (func $work)))
  (export "test:compute/worker@1.2.3" (instance $worker)))"""

_ALLOCATOR = """(core module $libc
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 1024))
    (func (export "realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
      (local $at i32) (local $end i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (local.set $end (i32.add (local.get $at) (local.get $new)))
      (block $fits
        (loop $grow
          (br_if $fits (i32.ge_u (i32.mul (memory.size) (i32.const 65536)) (local.get $end)))
          (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
          (br $grow)))
      (global.set $free (local.get $end))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))"""


def echo(kind: str, definitions: dict[str, str] | None = None) -> str:
    """A component with `echo` and `through`, both `func(x: list<kind>) -> list<kind>`.

    `echo` gives back what it got; `through` sends it to the import `test:echo/far#echo` and gives back the answer.
    `definitions` are named types in WAT, in order; `kind` and later ones may use them as `$name`.
    """
    inside = ""
    outside = ""
    for name, body in (definitions or {}).items():
        inside += f'(type ${name}-body {body}) (export "{name}" (type ${name} (eq ${name}-body)))\n'
        outside += f'(alias export $far "{name}" (type ${name}))\n'
    return f"""(component
  (import "test:echo/far@0.1.0" (instance $far
    {inside}
    (export "echo" (func (param "x" (list {kind})) (result (list {kind}))))))
  {outside}
  (alias export $far "echo" (func $far-echo))
  {_ALLOCATOR}
  (core func $far-echo-core (canon lower (func $far-echo) (memory $memory) (realloc $realloc)))
  (core module $m
    (import "libc" "memory" (memory 1))
    (import "far" "echo" (func $far-echo (param i32 i32 i32)))
    (func (export "echo") (param i32 i32) (result i32)
      (i32.store (i32.const 16) (local.get 0))
      (i32.store (i32.const 20) (local.get 1))
      (i32.const 16))
    (func (export "through") (param i32 i32) (result i32)
      (call $far-echo (local.get 0) (local.get 1) (i32.const 16))
      (i32.const 16)))
  (core instance $far-core (export "echo" (func $far-echo-core)))
  (core instance $i (instantiate $m (with "libc" (instance $libc)) (with "far" (instance $far-core))))
  (func (export "echo") (param "x" (list {kind})) (result (list {kind}))
    (canon lift (core func $i "echo") (memory $memory) (realloc $realloc)))
  (func (export "through") (param "x" (list {kind})) (result (list {kind}))
    (canon lift (core func $i "through") (memory $memory) (realloc $realloc))))"""


PADDING = 17
"""Parameters beside the one of interest: more than 16 in all, so that they travel through the guest's memory."""


def echo_beside(kind: str, definitions: dict[str, str] | None = None) -> str:
    """A component with `echo` and `through`, both `func(x: kind, p0: u8, ... p16: u8) -> tuple<kind, u8, ... u8>`.

    More parameters than fit flat are passed by pointer, and so is a result of more than one value: whatever `kind` is,
    the core code only passes a pointer on. `echo` and `through` do as those of `echo` do.
    """
    inside = ""
    outside = ""
    for name, body in (definitions or {}).items():
        inside += f'(type ${name}-body {body}) (export "{name}" (type ${name} (eq ${name}-body)))\n'
        outside += f'(alias export $far "{name}" (type ${name}))\n'
    padding = " ".join(f'(param "p{i}" u8)' for i in range(PADDING))
    signature = f'(param "x" {kind}) {padding} (result (tuple {kind} {"u8 " * PADDING}))'
    return f"""(component
  (import "test:echo/far@0.1.0" (instance $far
    {inside}
    (export "echo" (func {signature}))))
  {outside}
  (alias export $far "echo" (func $far-echo))
  {_ALLOCATOR}
  (core func $far-echo-core (canon lower (func $far-echo) (memory $memory) (realloc $realloc)))
  (core module $m
    (import "libc" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "far" "echo" (func $far-echo (param i32 i32)))
    (func (export "echo") (param i32) (result i32) (local.get 0))
    (func (export "through") (param i32) (result i32) (local $answer i32)
      (local.set $answer (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 262144)))
      (call $far-echo (local.get 0) (local.get $answer))
      (local.get $answer)))
  (core instance $far-core (export "echo" (func $far-echo-core)))
  (core instance $i (instantiate $m (with "libc" (instance $libc)) (with "far" (instance $far-core))))
  (func (export "echo") {signature}
    (canon lift (core func $i "echo") (memory $memory) (realloc $realloc)))
  (func (export "through") {signature}
    (canon lift (core func $i "through") (memory $memory) (realloc $realloc))))"""


def caller(interface: str, function: str, *, result: str = "", turns: int = 1) -> str:
    """A component whose `run` calls `interface#function`, which takes nothing, `turns` times.

    With `result` (a WAT type that is one core value: u32, a plain `(result)`), `run` returns the last answer.
    """
    returns = f"(result {result})" if result else ""
    core = "(result i32)" if result else ""
    drop = "drop" if result else ""
    return f"""(component
  (import "{interface}" (instance $far (export "{function}" (func {returns}))))
  (alias export $far "{function}" (func $f))
  (core func $f-core (canon lower (func $f)))
  (core module $m
    (import "far" "f" (func $f {core}))
    (func (export "run") {core} (local $i i32)
      (loop $l
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (if (i32.lt_u (local.get $i) (i32.const {turns})) (then (call $f) {drop} (br $l))))
      (call $f)))
  (core instance $far-core (export "f" (func $f-core)))
  (core instance $i (instantiate $m (with "far" (instance $far-core))))
  (func (export "run") {returns} (canon lift (core func $i "run"))))"""


WRITER = """(component
  (import "test:host/console" (instance $console (export "write" (func (param "text" string)))))
  (alias export $console "write" (func $write))
  (core module $libc (memory (export "memory") 1) (data (i32.const 0) "thread main panicked"))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $write-core (canon lower (func $write) (memory $memory)))
  (core module $m
    (import "console" "write" (func $write (param i32 i32)))
    (func (export "panic") (call $write (i32.const 0) (i32.const 20)) unreachable))
  (core instance $console-core (export "write" (func $write-core)))
  (core instance $i (instantiate $m (with "console" (instance $console-core))))
  (func (export "panic") (canon lift (core func $i "panic"))))"""

HUNGRY = """(component
  (import "test:host/console" (instance $console (export "write" (func (param "text" string)))))
  (alias export $console "write" (func $write))
  (core module $libc (memory (export "memory") 1) (data (i32.const 0) "memory allocation of 1048576 bytes failed"))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $write-core (canon lower (func $write) (memory $memory)))
  (core module $m
    (import "libc" "memory" (memory 1))
    (import "console" "write" (func $write (param i32 i32)))
    (func (export "eat") (param $pages i32)
      (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1))
        (then (call $write (i32.const 0) (i32.const 41)) unreachable))))
  (core instance $console-core (export "write" (func $write-core)))
  (core instance $i (instantiate $m (with "libc" (instance $libc)) (with "console" (instance $console-core))))
  (func (export "eat") (param "pages" u32) (canon lift (core func $i "eat"))))"""

LARGE_FROM_THE_START = """(component
  (core module $m (memory 64) (func (export "run")))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))"""

COUNTERS = """(component
  (import "test:host/counters" (instance $counters
    (export "counter" (type $counter (sub resource)))
    (export "[constructor]counter" (func (param "start" u32) (result (own $counter))))
    (export "[method]counter.add" (func (param "self" (borrow $counter)) (param "n" u32) (result u32)))
    (export "[static]counter.merge"
      (func (param "a" (own $counter)) (param "b" (own $counter)) (result (own $counter))))))
  (alias export $counters "counter" (type $counter))
  (import "test:host/registry" (instance $registry
    (alias outer 1 $counter (type $outer))
    (export "counter" (type $counter (eq $outer)))
    (export "read" (func (param "c" (borrow $counter)) (result u32)))))
  (core func $new (canon lower (func $counters "[constructor]counter")))
  (core func $add (canon lower (func $counters "[method]counter.add")))
  (core func $merge (canon lower (func $counters "[static]counter.merge")))
  (core func $read (canon lower (func $registry "read")))
  (core func $drop (canon resource.drop $counter))
  (core module $m
    (import "h" "new" (func $new (param i32) (result i32)))
    (import "h" "add" (func $add (param i32 i32) (result i32)))
    (import "h" "merge" (func $merge (param i32 i32) (result i32)))
    (import "h" "read" (func $read (param i32) (result i32)))
    (import "h" "drop" (func $drop (param i32)))
    (func (export "sum") (result i32) (local $a i32) (local $b i32) (local $c i32) (local $sum i32)
      (local.set $a (call $new (i32.const 3)))
      (local.set $b (call $new (i32.const 4)))
      (drop (call $add (local.get $a) (i32.const 10)))
      (local.set $c (call $merge (local.get $a) (local.get $b)))
      (local.set $sum (call $read (local.get $c)))
      (call $drop (local.get $c))
      (local.get $sum))
    (func (export "keep") (drop (call $new (i32.const 1))))
    (func (export "misuse") (drop (call $read (i32.const 77))))
    (func (export "given") (param i32) (result i32) (local $n i32)
      (local.set $n (call $add (local.get 0) (i32.const 1)))
      (call $drop (local.get 0))
      (local.get $n))
    (func (export "lent") (param i32) (result i32) (local $n i32)
      (local.set $n (call $add (local.get 0) (i32.const 1)))
      (call $drop (local.get 0))
      (local.get $n))
    (func (export "made") (result i32) (call $new (i32.const 9))))
  (core instance $h
    (export "new" (func $new)) (export "add" (func $add)) (export "merge" (func $merge))
    (export "read" (func $read)) (export "drop" (func $drop)))
  (core instance $i (instantiate $m (with "h" (instance $h))))
  (func (export "sum") (result u32) (canon lift (core func $i "sum")))
  (func (export "keep") (canon lift (core func $i "keep")))
  (func (export "misuse") (canon lift (core func $i "misuse")))
  (func (export "given") (param "c" (own $counter)) (result u32) (canon lift (core func $i "given")))
  (func (export "lent") (param "c" (borrow $counter)) (result u32) (canon lift (core func $i "lent")))
  (func (export "made") (result (own $counter)) (canon lift (core func $i "made"))))"""

FOREIGN_RESOURCE = """(component
  (import "acme:files/store" (instance
    (export "file" (type $file (sub resource)))
    (export "open" (func (result (own $file)))))))"""

STREAMING = """(component
  (import "acme:video/source" (instance (export "frames" (func (result (stream u8)))))))"""

THINGS = (Path(__file__).parent / "things.wat").read_text()
"""Exports a resource."""
