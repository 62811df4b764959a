"""Coroutines that are begun in one place and continued in another: what saves a Task where none is needed."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from typing import Any

if sys.version_info < (3, 12):
    # what asyncio's documentation gives third-party task implementations ("Extending asyncio")
    from asyncio.tasks import _enter_task, _leave_task


@types.coroutine
def continued(coroutine: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, Any]:
    """`await coroutine`, which has been run up to the point where it yielded `awaited`."""
    try:
        while True:
            try:
                sent = yield awaited
            except BaseException as error:
                awaited = coroutine.throw(error)
            else:
                awaited = coroutine.send(sent)
    except StopIteration as stop:
        return stop.value
    finally:
        coroutine.close()


def start(coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
    """Run `coroutine` up to its first wait. A task that goes on from there, or None when it is done: most guests are.

    Raises what it raises before its first wait. Python 3.12 has tasks that begin eagerly; before, the first step is
    made in the name of a stand-in, so that what it begins (an `asyncio.timeout` for one) belongs to the task to come.
    """
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        task = asyncio.Task(coroutine, loop=loop, name=name, eager_start=True)
        if not task.done():
            return task
        task.result()
        return None
    context = copy_context()
    standin = _StandIn()
    caller = asyncio.current_task(loop)
    if caller is not None:
        _leave_task(loop, caller)
    _enter_task(loop, standin)  # type: ignore[arg-type]
    try:
        awaited = context.run(coroutine.send, None)
    except StopIteration:
        return None
    finally:
        _leave_task(loop, standin)  # type: ignore[arg-type]
        if caller is not None:
            _enter_task(loop, caller)
    standin.task = loop.create_task(continued(coroutine, awaited), name=name, context=context)
    return standin.task


class _StandIn:
    """Answers for a task that is not there yet, and passes on to it once it is. Nobody else can act in between."""

    __slots__ = ("__weakref__", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None

    def cancel(self, msg: Any = None) -> bool:
        return self.task is not None and self.task.cancel(msg)

    def cancelling(self) -> int:
        return 0 if self.task is None else self.task.cancelling()

    def uncancel(self) -> int:
        return 0 if self.task is None else self.task.uncancel()

    def done(self) -> bool:
        return self.task is not None and self.task.done()

    def get_name(self) -> str:
        return "first step" if self.task is None else self.task.get_name()
