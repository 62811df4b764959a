"""Guests for the tests: components written by hand for exact mechanics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from wasi_types import HTTP_ERRORS

import actors.wasi  # noqa: F401  registers the interfaces
from actors.actor import Actor
from actors.engine import Engine, EngineConfig

HTTP_COMPONENT = """(component
  (import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
  (alias export $io-error "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $out (sub resource)))
    (alias outer 1 $error (type $error-outer))
    (export "error" (type $err (eq $error-outer)))
    (type $failed (variant (case "last-operation-failed" (own $err)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failed)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $out)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:http/types@0.2.0" (instance $http
    (export "fields" (type $fields (sub resource)))
    (export "incoming-request" (type $request (sub resource)))
    (export "outgoing-response" (type $response (sub resource)))
    (export "outgoing-body" (type $body (sub resource)))
    (export "response-outparam" (type $outparam (sub resource)))
    (alias outer 1 $output-stream (type $out-outer))
    (export "output-stream" (type $out (eq $out-outer)))
    HTTP_ERRORS
    (type $header-errors (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
    (export "header-error" (type $header-error (eq $header-errors)))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[method]fields.append" (func (param "self" (borrow $fields)) (param "name" string)
      (param "value" (list u8)) (result (result (error $header-error)))))
    (export "[constructor]outgoing-response" (func (param "headers" (own $fields)) (result (own $response))))
    (export "[method]outgoing-response.set-status-code"
      (func (param "self" (borrow $response)) (param "status-code" u16) (result (result))))
    (export "[method]outgoing-response.body" (func (param "self" (borrow $response)) (result (result (own $body)))))
    (export "[method]outgoing-body.write" (func (param "self" (borrow $body)) (result (result (own $out)))))
    (export "[static]outgoing-body.finish"
      (func (param "this" (own $body)) (param "trailers" (option (own $fields))) (result (result (error $code)))))
    (export "[static]response-outparam.set"
      (func (param "param" (own $outparam)) (param "response" (result (own $response) (error $code)))))))
  (alias export $http "incoming-request" (type $incoming-request))
  (alias export $http "outgoing-body" (type $outgoing-body))
  (alias export $http "response-outparam" (type $response-outparam))
  (core module $libc (memory (export "memory") 1)
    (global $top (mut i32) (i32.const 8192))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $fields (canon lower (func $http "[constructor]fields")))
  (core func $append (canon lower (func $http "[method]fields.append") (memory $memory)))
  (core func $response (canon lower (func $http "[constructor]outgoing-response")))
  (core func $status (canon lower (func $http "[method]outgoing-response.set-status-code")))
  (core func $body (canon lower (func $http "[method]outgoing-response.body") (memory $memory)))
  (core func $write (canon lower (func $http "[method]outgoing-body.write") (memory $memory)))
  (core func $finish (canon lower (func $http "[static]outgoing-body.finish")
    (memory $memory) (realloc (core func $libc "realloc"))))
  (core func $set (canon lower (func $http "[static]response-outparam.set")
    (memory $memory) (realloc (core func $libc "realloc"))))
  (core func $put (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
  (core func $drop-stream (canon resource.drop $output-stream))
  (core func $drop-request (canon resource.drop $incoming-request))
  (core func $drop-outparam (canon resource.drop $response-outparam))
  (core func $drop-body (canon resource.drop $outgoing-body))
  (core module $guest
    (import "libc" "memory" (memory 1))
    (import "host" "fields" (func $fields (result i32)))
    (import "host" "append" (func $append (param i32 i32 i32 i32 i32 i32)))
    (import "host" "response" (func $response (param i32) (result i32)))
    (import "host" "status" (func $status (param i32 i32) (result i32)))
    (import "host" "body" (func $body (param i32 i32)))
    (import "host" "write" (func $write (param i32 i32)))
    (import "host" "finish" (func $finish (param i32 i32 i32 i32)))
    (import "host" "set" (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "host" "put" (func $put (param i32 i32 i32 i32)))
    (import "host" "drop-stream" (func $drop-stream (param i32)))
    (import "host" "drop-request" (func $drop-request (param i32)))
    (import "host" "drop-outparam" (func $drop-outparam (param i32)))
    (import "host" "drop-body" (func $drop-body (param i32)))
    (data (i32.const 1024) "Hello from WebAssembly!\\0a")
    (data (i32.const 2048) "content-typetext/plain")
    (func $head (param $out i32) (result i32) (local $headers i32) (local $answer i32)
      (local.set $headers (call $fields))
      (call $append (local.get $headers) (i32.const 2048) (i32.const 12) (i32.const 2060) (i32.const 10) (i32.const 0))
      (local.set $answer (call $response (local.get $headers)))
      (drop (call $status (local.get $answer) (i32.const 201)))
      (call $body (local.get $answer) (i32.const 0))
      (call $set (local.get $out) (i32.const 0) (local.get $answer) (i32.const 0) (i64.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (i32.load (i32.const 4)))
    (func $hello (param $stream i32)
      (call $put (local.get $stream) (i32.const 1024) (i32.const 24) (i32.const 16)))
    (func $fail (param $out i32) (param $code i32)
      (call $set (local.get $out) (i32.const 1) (local.get $code) (i32.const 0) (i64.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
    (func (export "handle") (param $request i32) (param $out i32) (local $body i32) (local $stream i32) (local $n i32)
      (call $drop-request (local.get $request))
      BODY))
  (core instance $host
    (export "fields" (func $fields)) (export "append" (func $append)) (export "response" (func $response))
    (export "status" (func $status)) (export "body" (func $body)) (export "write" (func $write))
    (export "finish" (func $finish)) (export "set" (func $set)) (export "put" (func $put))
    (export "drop-stream" (func $drop-stream)) (export "drop-request" (func $drop-request))
    (export "drop-outparam" (func $drop-outparam)) (export "drop-body" (func $drop-body)))
  (core instance $guest (instantiate $guest (with "libc" (instance $libc)) (with "host" (instance $host))))
  (func $handle (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
    (canon lift (core func $guest "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"""


def http_component(body: str) -> bytes:
    """A wasi:http component whose `handle` does `body`, written in WAT.

    Locals: $request (dropped already), $out, $body, $stream, $n. Functions: the host's ($write, $put, $finish, ...),
    $head (sends status 201 and a content-type; gives the body), $hello (writes a line), $fail (sends an error-code).
    """
    return HTTP_COMPONENT.replace("HTTP_ERRORS", HTTP_ERRORS).replace("BODY", body).encode()


@pytest.fixture(scope="session")
def wat() -> Callable[[str], bytes]:
    return http_component


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine(EngineConfig(pool=0))
    yield made
    made.close()


@pytest.fixture
async def deployed(engine: Engine) -> AsyncIterator[Callable[..., Actor]]:
    """Makes actors as `Actor(...)` does; when the test ends, so have their guests."""
    made: list[Actor] = []

    def deploy(*args: Any, **options: Any) -> Actor:
        made.append(Actor(*args, **options))
        return made[-1]

    yield deploy
    async with asyncio.timeout(10):
        for actor in made:
            await actor.drain()
