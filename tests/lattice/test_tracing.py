"""W3C trace context, as others write it and as we pass it on."""

import pytest

from lattice.errors import ProtocolError, Trap
from lattice.frames import CALL, decode_call
from lattice.http import HANDLE
from lattice.names import EntityId
from lattice.tracing import SHORT, Http, child_of, outcome_of, received, span_id, trace_id

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f"01-{TRACE}-{SPAN}-01more",
    ],
)
def test_a_malformed_traceparent_is_none_at_all_and_takes_the_tracestate_with_it(malformed):
    assert received(malformed, "vendor=1") == {}


def test_a_later_version_is_understood_as_far_as_this_one_goes():
    assert received(f"cc-{TRACE}-{SPAN}-01-what-comes-then") == {"traceparent": GIVEN}


@pytest.mark.parametrize("flags", ["00", "01", "03"])
def test_a_child_keeps_the_trace_its_flags_and_its_state_and_has_a_span_of_its_own(flags):
    parent = received(f"00-{TRACE}-{SPAN}-{flags}", "vendor=1")
    child = child_of(parent)
    assert (trace_id(child), child["tracestate"]) == (TRACE, "vendor=1")
    assert child["traceparent"].endswith(f"-{flags}")
    assert received(child["traceparent"])
    assert span_id(child) != SPAN


def test_a_trace_begins_where_there_is_none():
    one, other = child_of({}), child_of({})
    assert received(one["traceparent"]) == one
    assert trace_id(one) != trace_id(other)


@pytest.mark.parametrize("sent", [None, [], "00", {"traceparent": 1}, {"traceparent": "x"}, {"tracestate": "a=b"}])
def test_a_call_whose_context_is_none_comes_without(sent):
    frame = [CALL, "a:b/c#d", "source", "default", None, sent, [], "1"]
    call, _ = decode_call(frame, EntityId("target"))
    assert call.trace == {}


def test_a_span_holds_little_of_what_others_chose():
    request = {"method": "X" * 10_000, "path-with-query": "/" + "x" * 10_000}
    http = Http.of(HANDLE.key, (request,), None)
    assert http is not None
    assert (len(http.method), len(http.url)) == (SHORT, SHORT)
    assert outcome_of(Trap("x" * 10_000)) == ("trap", "x" * SHORT)
    assert received(GIVEN, "x" * 10_000) == {"traceparent": GIVEN}
    for function, source in (("a:b/c#" + "d" * 10_000, "source"), ("a:b/c#d", "s" * 10_000)):
        with pytest.raises(ProtocolError, match="more than 1024"):
            decode_call([CALL, function, source, "default", None, None, [], "1"], EntityId("target"))


def test_arguments_that_are_no_request_say_nothing_of_http():
    assert [Http.of(HANDLE.key, args, None) for args in ((), (None,), ({"method": "GET"},), ("GET /",))] == [None] * 4
