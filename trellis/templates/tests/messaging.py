import asyncio
from pathlib import Path

from lattice import Invocation
from trellis.testing import running

ACTOR = Path(__file__).parents[1] / "{{folder}}"


def test_it_replies_in_upper_case():
    async def send() -> None:
        replies = []

        async def broker(invocation: Invocation) -> None:
            replies.append(invocation.args[0])

        async with running(ACTOR, peer=broker) as actor:
            message = {"subject": "{{name}}.x", "body": b"hello", "reply-to": "inbox"}
            await actor.call("wasmcloud:messaging/handler#handle-message", message)
        assert replies == [{"subject": "inbox", "body": b"HELLO", "reply-to": None}]

    asyncio.run(send())
