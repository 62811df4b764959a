"""Answers messages, in upper case."""

from wit_world import exports
from wit_world.imports import consumer
from wit_world.imports.types import BrokerMessage


class Handler(exports.Handler):
    def handle_message(self, msg: BrokerMessage) -> None:
        if msg.reply_to is not None:
            consumer.publish(BrokerMessage(subject=msg.reply_to, body=msg.body.upper(), reply_to=None))
