"""A guest that tries everything once: each path uses one part of what the host offers and answers JSON."""

import asyncio
import json
import os
import random
import socket
import sys
import time
from pathlib import Path

from componentize_py_types import Err, Ok
from pages import PAGES
from polling import PollLoop, Sink, Stream, send
from wit_world import exports
from wit_world.imports import atomics, batch, lattice, logging, reveal
from wit_world.imports import wasi_config_store as config
from wit_world.imports import wasi_keyvalue_store as keyvalue
from wit_world.imports import wasmcloud_secrets_store as secrets
from wit_world.imports.wasi_http_types import (
    Fields,
    IncomingRequest,
    Method_Get,
    OutgoingBody,
    OutgoingRequest,
    OutgoingResponse,
    ResponseOutparam,
    Scheme_Http,
)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path = (request.path_with_query() or "/").partition("?")[0]
        if path == "/upper":
            loop = PollLoop()
            asyncio.set_event_loop(loop)
            loop.run_until_complete(upper(request, response_out))
            return
        if path == "/late":
            late(response_out)
        if path in PAGES:
            answer(response_out, PAGES[path](), "text/plain")
        else:
            answer(response_out, json.dumps(globals()[f"try_{path[1:]}"](request)))


def answer(response_out: ResponseOutparam, text: str, content_type: str = "application/json") -> None:
    headers = [("content-type", content_type.encode()), ("X-Guest", b"python")]
    response = OutgoingResponse(Fields.from_list(headers))
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        stream.blocking_write_and_flush(text.encode())
    OutgoingBody.finish(body, None)


def late(response_out: ResponseOutparam) -> None:
    """Answer, and fail then."""
    response = OutgoingResponse(Fields.from_list([]))
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        stream.blocking_write_and_flush(b"done")
    OutgoingBody.finish(body, None)
    raise ValueError("too late")


async def upper(request: IncomingRequest, response_out: ResponseOutparam) -> None:
    """Both ways at once, through asyncio over wasi:io/poll."""
    response = OutgoingResponse(Fields.from_list([]))
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    source, sink = Stream(request.consume()), Sink(body)
    while (chunk := await source.next()) is not None:
        await sink.send(chunk.upper())
    sink.close()


def try_request(request: IncomingRequest) -> object:
    method = request.method()
    return {
        "get": isinstance(method, Method_Get),
        "http": isinstance(request.scheme(), Scheme_Http),
        "authority": request.authority(),
        "path": request.path_with_query(),
        "headers": [[name, value.decode()] for name, value in request.headers().entries()],
    }


def try_print(request: IncomingRequest) -> object:
    sys.stdout.write("to stdout\n")
    sys.stderr.write("to stderr\n")
    return None


def try_sleep(request: IncomingRequest) -> object:
    begun = time.monotonic()
    time.sleep(0.05)
    return time.monotonic() - begun


def try_random(request: IncomingRequest) -> object:
    return [random.SystemRandom().randrange(2**62), os.urandom(8).hex()]


def try_wall(request: IncomingRequest) -> object:
    return time.time()


def try_environment(request: IncomingRequest) -> object:
    return {"config": dict(config.get_all()), "environment": dict(os.environ)}


def try_secrets(request: IncomingRequest) -> object:
    with secrets.get("password") as password, secrets.get("key") as key:
        text, data = reveal.reveal(password), reveal.reveal(key)
    try:
        secrets.get("nothing")
    except Err as error:
        missing = type(error.value).__name__
    return [type(text).__name__, text.value, type(data).__name__, data.value.hex(), missing]


def try_log(request: IncomingRequest) -> object:
    logging.log(logging.Level.WARN, "shop", "sold out")
    return None


def try_batch(request: IncomingRequest) -> object:
    lattice.set_link_name("cache", [lattice.CallTargetInterface("wasi", "keyvalue", "batch")])
    with keyvalue.open("things") as bucket:
        batch.set_many(bucket, [("a", b"1"), ("b", b"2")])
        found = batch.get_many(bucket, ["a", "b", "c"])
        batch.delete_many(bucket, ["a"])
        page = bucket.list_keys(None)
        return {"found": [entry and [entry[0], entry[1].decode()] for entry in found], "keys": page.keys}


def try_swap(request: IncomingRequest) -> object:
    with keyvalue.open("things") as bucket:
        cas = atomics.Cas.new(bucket, "a")
        bucket.set("a", b"theirs")
        try:
            atomics.swap(cas, b"mine")
        except Err as error:
            latest = error.value.value
        seen = latest.current()
        atomics.swap(latest, b"mine")
        return {"seen": seen.decode(), "now": bucket.get("a").decode()}


def try_unlinked(request: IncomingRequest) -> object:
    try:
        keyvalue.open("things").get("a")
    except Err as error:
        return type(error.value).__name__ + ": " + error.value.value
    return "no error"


def try_socket(request: IncomingRequest) -> object:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).connect(("127.0.0.1", 80))
    except OSError as error:
        return type(error).__name__
    return "connected"


def try_file(request: IncomingRequest) -> object:
    try:
        with Path("/etc/passwd").open() as file:
            return file.read()
    except OSError as error:
        return type(error).__name__


def try_fetch(request: IncomingRequest) -> object:
    async def fetch() -> object:
        asked = OutgoingRequest(Fields.from_list([("accept", b"text/plain")]))
        asked.set_scheme(Scheme_Http())
        asked.set_authority("upstream:8080")
        asked.set_path_with_query("/thing?x=1")
        response = await send(asked)
        body, text = Stream(response.consume()), b""
        while (chunk := await body.next()) is not None:
            text += chunk
        return {"status": response.status(), "text": text.decode()}

    loop = PollLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(fetch())
    except Err as error:
        return {"error": type(error.value).__name__}


def try_exit(request: IncomingRequest) -> object:
    sys.stderr.write("bye\n")
    sys.stderr.flush()
    os._exit(3)
