"""Components written by hand for the verbs that run one: a calculator, a command, something that serves HTTP."""

from __future__ import annotations

from wasi_types import HTTP_ERRORS

CALCULATOR = """(component
  (core module $m
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "divide") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
    (func (export "same") (param i64) (result i64) (local.get 0))
    (func (export "half") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
    (func (export "spin") (loop $l (br $l)))
    (func (export "checked") (param i32 i32) (result i32)
      (i32.store8 (i32.const 16) (i32.eqz (local.get 1)))
      (if (i32.eqz (local.get 1))
        (then (i32.store8 (i32.const 20) (i32.const 1)))
        (else (i32.store (i32.const 20) (i32.div_s (local.get 0) (local.get 1)))))
      (i32.const 16))
    (func (export "echo") (param i32 i32) (result i32)
      (i32.store (i32.const 16) (local.get 0))
      (i32.store (i32.const 20) (local.get 1))
      (i32.const 16)))
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "realloc" (core func $realloc))
  (func $divide (param "a" s32) (param "b" s32) (result s32) (canon lift (core func $i "divide")))
  (type $trouble-body (enum "overflow" "by-zero"))
  (export $trouble "trouble" (type $trouble-body))
  (func $same (param "number" u64) (result u64) (canon lift (core func $i "same")))
  (func $bytes (param "data" (list u8)) (result (list u8))
    (canon lift (core func $i "echo") (memory $memory) (realloc $realloc)))
  (func $text (param "text" string) (result string)
    (canon lift (core func $i "echo") (memory $memory) (realloc $realloc)))
  (instance $whole (export "divide" (func $divide)) (export "same" (func $same)))
  (export "test:calculator/whole@0.1.0" (instance $whole))
  (instance $echo (export "bytes" (func $bytes)) (export "text" (func $text)) (export "same" (func $same)))
  (export "test:calculator/echo@0.2.0-rc.1" (instance $echo))
  (func (export "checked") (param "a" s32) (param "b" s32) (result (result s32 (error $trouble)))
    (canon lift (core func $i "checked") (memory $memory)))
  (func (export "half") (param "number" f64) (result f64) (canon lift (core func $i "half")))
  (func (export "spin") (canon lift (core func $i "spin"))))"""

STREAMS = """
  (import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
  (alias export $io-error "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "input-stream" (type $in (sub resource)))
    (export "output-stream" (type $out (sub resource)))
    (alias outer 1 $error (type $error-outer))
    (export "error" (type $err (eq $error-outer)))
    (type $failed (variant (case "last-operation-failed" (own $err)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failed)))
    (export "[method]input-stream.blocking-read"
      (func (param "self" (borrow $in)) (param "len" u64) (result (result (list u8) (error $stream-error)))))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $out)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
  (alias export $streams "input-stream" (type $input-stream))
  (alias export $streams "output-stream" (type $output-stream))
"""

COPIER = (
    """(component"""
    + STREAMS
    + """
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $input-stream (type $in-outer)) (export "input-stream" (type $in (eq $in-outer)))
    (export "get-stdin" (func (result (own $in))))))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output-stream (type $out-outer)) (export "output-stream" (type $out (eq $out-outer)))
    (export "get-stdout" (func (result (own $out))))))
  (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit-with-code" (func (param "status-code" u8)))))
  (core module $libc (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $get-stdin (canon lower (func $stdin "get-stdin")))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $exit-core (canon lower (func $exit "exit-with-code")))
  (core func $read (canon lower (func $streams "[method]input-stream.blocking-read")
    (memory $memory) (realloc (core func $libc "realloc"))))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
  (core module $m
    (import "libc" "memory" (memory 1))
    (import "host" "get-stdin" (func $get-stdin (result i32)))
    (import "host" "get-stdout" (func $get-stdout (result i32)))
    (import "host" "exit" (func $exit (param i32)))
    (import "host" "read" (func $read (param i32 i64 i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (func (export "run") (result i32) (local $in i32) (local $out i32)
      (local.set $in (call $get-stdin))
      (local.set $out (call $get-stdout))
      (loop $l
        (call $read (local.get $in) (i64.const 4096) (i32.const 16))
        (if (i32.load8_u (i32.const 16)) (then (call $exit (i32.const 7))))
        ;; the byte "!" at the beginning ends it with a trap
        (if (i32.eq (i32.load8_u (i32.load (i32.const 20))) (i32.const 33)) (then unreachable))
        (call $write (local.get $out) (i32.load (i32.const 20)) (i32.load (i32.const 24)) (i32.const 32))
        (if (i32.load8_u (i32.const 32)) (then unreachable))
        (br $l))
      (i32.const 0)))
  (core instance $host (export "get-stdin" (func $get-stdin)) (export "get-stdout" (func $get-stdout))
    (export "exit" (func $exit-core)) (export "read" (func $read)) (export "write" (func $write)))
  (core instance $i (instantiate $m (with "libc" (instance $libc)) (with "host" (instance $host))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $runs (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $runs)))"""
)
"""A command that copies its input to its output, and exits with 7 when that ends."""

TEAPOT = (
    """(component
  (import "wasi:http/types@0.2.0" (instance $http
    (export "fields" (type $fields (sub resource)))
    (export "incoming-request" (type $request (sub resource)))
    (export "outgoing-response" (type $response (sub resource)))
    (export "response-outparam" (type $outparam (sub resource)))
    """
    + HTTP_ERRORS
    + """
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[constructor]outgoing-response" (func (param "headers" (own $fields)) (result (own $response))))
    (export "[method]outgoing-response.set-status-code"
      (func (param "self" (borrow $response)) (param "status-code" u16) (result (result))))
    (export "[static]response-outparam.set"
      (func (param "param" (own $outparam)) (param "response" (result (own $response) (error $code)))))))
  (alias export $http "incoming-request" (type $incoming-request))
  (alias export $http "response-outparam" (type $response-outparam))
  (core module $libc (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $fields (canon lower (func $http "[constructor]fields")))
  (core func $response (canon lower (func $http "[constructor]outgoing-response")))
  (core func $status (canon lower (func $http "[method]outgoing-response.set-status-code")))
  (core func $set (canon lower (func $http "[static]response-outparam.set")
    (memory $memory) (realloc (core func $libc "realloc"))))
  (core module $m
    (import "host" "fields" (func $fields (result i32)))
    (import "host" "response" (func $response (param i32) (result i32)))
    (import "host" "status" (func $status (param i32 i32) (result i32)))
    (import "host" "set" (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (func (export "handle") (param i32 i32) (local $response i32)
      (local.set $response (call $response (call $fields)))
      (drop (call $status (local.get $response) (i32.const 418)))
      (call $set (local.get 1) (i32.const 0) (local.get $response) (i32.const 0) (i64.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
  (core instance $host (export "fields" (func $fields)) (export "response" (func $response))
    (export "status" (func $status)) (export "set" (func $set)))
  (core instance $i (instantiate $m (with "host" (instance $host))))
  (func $handle (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
    (canon lift (core func $i "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"""
)
"""Answers every request with 418, and nothing more."""
