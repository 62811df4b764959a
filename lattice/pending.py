"""The requests of one connection that wait for an answer."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from lattice.errors import LatticeError

AnswerT = TypeVar("AnswerT")


class Pending(dict[str, tuple["asyncio.Future[AnswerT]", str]]):
    """What each reply subject waits for, and which subject was asked."""

    def asked(self) -> dict[str, str]:
        """The subject that each of those asked which are not answered yet, by its reply subject."""
        return {reply: asked for reply, (answer, asked) in self.items() if not answer.done()}

    def fail(self, reply: str, error: LatticeError) -> None:
        """End one with `error`, if it still waits."""
        waiting = self.get(reply)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_exception(error)
