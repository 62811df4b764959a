"""A guest that answers messages: in upper case, with what somebody else answers, or with why it could not."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import consumer
from wit_world.imports.wasmcloud_messaging_types import BrokerMessage


class Handler(exports.Handler):
    def handle_message(self, msg: BrokerMessage) -> None:
        match msg.subject.split("."):
            case ["ask", *_]:
                answer = asked(msg.body.decode())
            case ["refuse", *_]:
                raise Err("not today")
            case _:
                answer = msg.body.upper()
        if msg.reply_to is not None:
            consumer.publish(BrokerMessage(subject=msg.reply_to, body=answer, reply_to=None))


def asked(subject: str) -> bytes:
    try:
        answer = consumer.request(subject, b"?", 200)
    except Err as error:
        return f"error: {error.value}".encode()
    return answer.body + b" from " + answer.subject.encode()
