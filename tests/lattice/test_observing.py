"""What an observer is told of each call."""

import asyncio

import pytest
from structlog.testing import capture_logs

from lattice import EntityId, Function, Invocation, Unreachable, WitError
from lattice.names import LinkName
from lattice.observing import Observing
from lattice.tracing import received, span_id, trace_id

GIVEN = received("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
CALL = Invocation(EntityId("store"), Function.parse("a:b/c@0.1.0#get"), ("key",), EntityId("app"), LinkName("main"))


async def told_of_all():
    """Return once observers have been told of what ended: the loop's next pass."""
    await asyncio.sleep(0)


def observed(handler, **how):
    """The handler, observed, and what its observer is told."""
    observing, told = Observing(), []
    observing.observers.append(lambda *all: told.append(all))
    return observing.around(handler, "component", **how), told


async def test_a_call_is_told_with_its_time_its_ends_and_its_answer():
    async def slow(call):
        await asyncio.sleep(0.01)
        return "value"

    handle, told = observed(slow, direct=True)
    assert await handle(CALL.under(GIVEN)) == "value"
    assert not told
    await told_of_all()
    [(span, args, answer)] = told
    assert (span.trace, span.parent) == (trace_id(GIVEN), span_id(GIVEN))
    assert (span.source, span.target, span.function, span.link) == ("app", "store", "a:b/c#get", "main")
    assert (span.kind, span.direct, span.outcome, args, answer) == ("component", True, "ok", ("key",), "value")
    assert 0.01 <= span.seconds < 5


async def test_an_observer_that_fails_is_logged_and_keeps_no_call_from_its_answer():
    async def echo(call):
        return call.args[0]

    def fails(span, args, answer):
        raise RuntimeError("a bug")

    observing, told = Observing(), []
    observing.observers += [fails, lambda *all: told.append(all)]
    with capture_logs() as logs:
        assert await observing.around(echo, "component")(CALL) == "key"
        await told_of_all()
    assert len(told) == 1
    assert "observer.failed" in [entry["event"] for entry in logs]


async def test_what_a_call_calls_in_turn_has_the_call_as_its_parent():
    async def inner(call):
        return None

    async def outer(call):
        return await handle_inner(call)

    observing, spans = Observing(), []
    observing.observers.append(lambda span, args, answer: spans.append(span))
    handle_inner = observing.around(inner, "provider")
    await observing.around(outer, "component")(CALL)
    await told_of_all()
    child, parent = spans
    assert (child.trace, child.parent, parent.parent) == (parent.trace, parent.id, "")


@pytest.mark.parametrize(
    ("raised", "outcome", "sentence", "answer"),
    [
        (WitError({"too-long": 80}), "err", "", {"too-long": 80}),
        (Unreachable("nothing serves it"), "unreachable", "nothing serves it", None),
        (asyncio.CancelledError(), "cancelled", "", None),
        (KeyError("bug"), "failed", "KeyError: 'bug'", None),
    ],
)
async def test_a_call_that_does_not_go_well_is_told_with_what_it_came_to(raised, outcome, sentence, answer):
    async def fail(call):
        raise raised

    handle, told = observed(fail)
    with pytest.raises(type(raised)):
        await handle(CALL)
    await told_of_all()
    [(span, _, answered)] = told
    assert (span.outcome, span.error, answered) == (outcome, sentence, answer)
