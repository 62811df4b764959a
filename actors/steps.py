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


def start(coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """A task that has run up to its first wait when this returns: most guests are done by then.

    Python 3.12 can do that by itself. Before, the first step is made here in the task's name (so that what it begins,
    an `asyncio.timeout` for one, belongs to the task), and the task goes on from there.
    """
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        return asyncio.Task(coroutine, loop=loop, name=name, eager_start=True)
    context = copy_context()
    step = _FirstStep()
    task = loop.create_task(_rest(coroutine, step), name=name, context=context)
    caller = asyncio.current_task(loop)
    if caller is not None:
        _leave_task(loop, caller)
    _enter_task(loop, task)
    try:
        step.awaited = context.run(coroutine.send, None)
    except StopIteration:
        step.finished = True
    except BaseException as error:
        step.finished = True
        step.error = error
    finally:
        _leave_task(loop, task)
        if caller is not None:
            _enter_task(loop, caller)
    return task


class _FirstStep:
    """How far a coroutine got before its task took over."""

    __slots__ = ("awaited", "error", "finished")

    def __init__(self) -> None:
        self.awaited: Any = None
        self.error: BaseException | None = None
        self.finished = False


async def _rest(coroutine: Coroutine[Any, Any, None], step: _FirstStep) -> None:
    if step.error is not None:
        raise step.error
    if not step.finished:
        await continued(coroutine, step.awaited)
