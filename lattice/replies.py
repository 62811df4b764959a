"""What is asked on a subject, and answered by whoever listens there."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from pydantic import ValidationError

from lattice.errors import LatticeError
from lattice.transport import Message, Subscription, Transport

log = structlog.get_logger("lattice")


async def reply_on(
    transport: Transport, subject: str, reply: Callable[[bytes], bytes], *, queue: str | None = None
) -> Subscription:
    """Send back what `reply` makes of each question; what it cannot read (ValidationError) is somebody else's noise."""

    async def asked(message: Message) -> None:
        try:
            answered = reply(message.data)
        except ValidationError:
            return
        if message.reply is None:
            return
        try:
            await transport.publish(message.reply, answered)
        except LatticeError as error:
            log.warning("answer.unsent", subject=subject, error=error.message)

    return await transport.subscribe(subject, asked, queue=queue)
