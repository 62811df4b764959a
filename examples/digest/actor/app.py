"""What was told on `news.*`, in one message for all of it when the schedule says so.

Each message is kept in a bucket as it comes. A digest is published on `digest`, once on whichever host, with everything
since the last one. What it held is forgotten after that: if publishing fails, the next digest has it.
"""

import json

from wit_world import exports
from wit_world.imports import atomics, batch, consumer, store
from wit_world.imports.types import BrokerMessage

MOST = 1000  # messages in one digest; the next one has the rest


class Handler(exports.Handler):
    def handle_message(self, msg: BrokerMessage) -> None:
        about = msg.subject.removeprefix("news.")
        with store.open("default") as bucket:
            number = atomics.increment(bucket, "told", 1)
            bucket.set(str(number), json.dumps([about, msg.body.decode(errors="replace")]).encode())


class Scheduler(exports.Scheduler):
    def invoke(self, payload: bytes) -> None:
        with store.open("default") as bucket:
            first = int(bucket.get("sent") or b"0") + 1
            keys = [str(number) for number in range(first, first + MOST)]
            told: dict[str, list[str]] = {}
            sent = 0
            for found in batch.get_many(bucket, keys):
                if found is None:  # not told yet, or just being kept
                    break
                about, text = json.loads(found[1])
                told.setdefault(about, []).append(text)
                sent += 1
            if sent:
                consumer.publish(BrokerMessage("digest", json.dumps(told).encode(), None))
                bucket.set("sent", b"%d" % (first + sent - 1))
                batch.delete_many(bucket, keys[:sent])
