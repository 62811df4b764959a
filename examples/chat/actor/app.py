"""Chat rooms. What is said travels as messages on `chat.ROOM`, so that any program on NATS can listen and talk.

    GET  /                    a page to try it with
    POST /rooms/ROOM          say the body
    GET  /rooms/ROOM/events   what is said, as server-sent events

An instance lives for one call, so what was said is kept in a bucket: the one that hears a message puts it there, the
ones that stream events look there. A stream ends after a while; browsers come back and say what they saw last.
"""

import json
import re
import time

from web import Exchange
from wit_world import exports
from wit_world.imports import atomics, consumer, store
from wit_world.imports.wasi_http_types import IncomingRequest, ResponseOutparam
from wit_world.imports.wasmcloud_messaging_types import BrokerMessage

LONGEST = 4_000  # bytes of one text
STREAMED = 20.0  # seconds
LOOK = 0.1  # seconds between two looks into the bucket
EARLIER = 20  # messages that a newcomer sees

PAGE = """<!doctype html><title>chat</title><ul id=said></ul><form id=form><input id=text autofocus></form><script>
const show = ({data}) => said.append(Object.assign(document.createElement("li"), {textContent: JSON.parse(data).text}))
new EventSource("/rooms/lobby/events").onmessage = show
form.onsubmit = () => (fetch("/rooms/lobby", {method: "POST", body: text.value}), (text.value = ""), false)
</script>"""


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        exchange = Exchange(request, response_out)
        match exchange.method, exchange.parts:
            case "GET", []:
                exchange.answer(200, PAGE, "text/html; charset=utf-8")
            case _, ["rooms", room, *_] if not re.fullmatch(r"[a-z0-9-]{1,32}", room):
                exchange.answer(400, "a room's name is up to 32 letters from a to z, digits and `-`\n")
            case "POST", ["rooms", room]:
                say(exchange, room)
            case "GET", ["rooms", room, "events"]:
                events(exchange, room)
            case _:
                exchange.answer(404, "there is nothing here\n")


class Handler(exports.Handler):
    def handle_message(self, msg: BrokerMessage) -> None:
        """Keep what was said; it may come from anybody who can publish."""
        try:
            said = json.loads(msg.body)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            said = {"text": msg.body.decode(errors="replace")}
        room = msg.subject.removeprefix("chat.")
        with store.open("default") as bucket:
            number = atomics.increment(bucket, f"{room}.count", 1)
            bucket.set(f"{room}.{number}", json.dumps(said).encode())


def say(exchange: Exchange, room: str) -> None:
    text = exchange.body(LONGEST)
    if not text:
        return exchange.answer(413 if text is None else 400, f"say something, in at most {LONGEST} bytes\n")
    said = {"text": text.decode(errors="replace")}
    consumer.publish(BrokerMessage(f"chat.{room}", json.dumps(said).encode(), None))
    return exchange.answer(202, "said\n")


def events(exchange: Exchange, room: str) -> None:
    with store.open("default") as bucket:
        seen = exchange.headers.get("last-event-id", "")
        shown = int(seen) if seen.isdigit() else max(0, count(bucket, room) - EARLIER)
        end = time.monotonic() + STREAMED
        with exchange.answering(200, "text/event-stream") as tell:
            tell(b"retry: 200\n\n")
            while time.monotonic() < end:
                while shown < count(bucket, room) and (said := bucket.get(f"{room}.{shown + 1}")) is not None:
                    shown += 1
                    tell(b"id: %d\ndata: %b\n\n" % (shown, said))
                time.sleep(LOOK)


def count(bucket: store.Bucket, room: str) -> int:
    return int(bucket.get(f"{room}.count") or b"0")
