"""Pictures in a blob store, each with a thumbnail.

    POST /pictures          keep the body, a PNG; says its ID
    GET  /pictures          the IDs, as JSON
    GET  /pictures/ID, /thumbnails/ID

A picture goes by its content: the same one twice is one.
"""

import hashlib
import json

import png
from componentize_py_types import Err
from web import Exchange, send
from wit_world import exports
from wit_world.imports import blobstore
from wit_world.imports.container import Container
from wit_world.imports.wasi_blobstore_types import IncomingValue, OutgoingValue
from wit_world.imports.wasi_http_types import IncomingRequest, ResponseOutparam

LARGEST = 1_000_000  # bytes of one picture
SIDE = 64  # pixels of a thumbnail
LISTED = 1000


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        exchange = Exchange(request, response_out)
        match exchange.method, exchange.parts:
            case "POST", ["pictures"]:
                take(exchange)
            case "GET", ["pictures"]:
                with opened("pictures") as container, container.list_objects() as names:
                    found, _ = names.read_stream_object_names(LISTED)
                exchange.answer(200, json.dumps(sorted(found)) + "\n", "application/json")
            case "GET", ["pictures" | "thumbnails" as kind, name]:
                show(exchange, kind, name)
            case _:
                exchange.answer(404, "there is nothing here\n")


def take(exchange: Exchange) -> None:
    data = exchange.body(LARGEST)
    if data is None:
        return exchange.answer(413, f"a picture has at most {LARGEST} bytes\n")
    try:
        small = png.thumbnail(data, SIDE)
    except png.NotReadable as error:
        return exchange.answer(415, f"{error}\n")
    name = hashlib.sha256(data).hexdigest()[:16]
    keep("thumbnails", name, small)
    keep("pictures", name, data)
    return exchange.answer(201, f"{name}\n")


def show(exchange: Exchange, kind: str, name: str) -> None:
    with opened(kind) as container:
        if not container.has_object(name):
            return exchange.answer(404, "there is no such picture\n")
        value = container.get_data(name, 0, container.object_info(name).size - 1)
        return exchange.answer(200, IncomingValue.incoming_value_consume_sync(value), "image/png")


def keep(kind: str, name: str, data: bytes) -> None:
    value = OutgoingValue.new_outgoing_value()
    with opened(kind) as container:
        container.write_data(name, value)
    with value.outgoing_value_write_body() as body:
        send(body, data)
    OutgoingValue.finish(value)


def opened(kind: str) -> Container:
    try:
        return blobstore.get_container(kind)
    except Err:
        return blobstore.create_container(kind)
