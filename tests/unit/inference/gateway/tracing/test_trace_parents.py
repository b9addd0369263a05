"""What is taken up of a client's trace: what is well-formed, and no more than so much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import TraceState

from inference.gateway.tracing.parent import STATE_CHARACTERS, STATE_MEMBERS, parent_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01".encode()


def states(*values: bytes) -> TraceState:
    found = parent_of([(b"traceparent", GOOD), *((b"tracestate", value) for value in values)])
    assert found is not None
    return found.trace_state


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (GOOD, 1),
        (f"00-{TRACE}-{SPAN}-00".encode(), 0),
        (f"00-{TRACE}-{SPAN}-ff".encode(), 3),
        (f"cc-{TRACE}-{SPAN}-01".encode(), 1),
        (f"cc-{TRACE}-{SPAN}-01-what comes later".encode(), 1),
    ],
)
def test_what_is_well_formed_is_taken_up_with_the_flags_that_are_known(value: bytes, flags: int) -> None:
    found = parent_of([(b"accept", b"*/*"), (b"traceparent", value)])
    assert found is not None
    assert (found.trace_id, found.span_id, found.trace_flags) == (int(TRACE, 16), int(SPAN, 16), flags)
    assert found.is_remote
    assert found.is_valid


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-01-more".encode(),
        f"cc-{TRACE}-{SPAN}-01more".encode(),
        f"00-{TRACE.upper()}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{TRACE[1:]}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-0g".encode(),
        f" 00-{TRACE}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-01\n".encode(),
    ],
)
def test_what_is_not_is_as_if_it_had_not_been_sent(value: bytes) -> None:
    assert parent_of([(b"traceparent", value), (b"tracestate", b"a=b")]) is None


def test_two_parents_are_none() -> None:
    assert parent_of([(b"traceparent", GOOD), (b"traceparent", GOOD)]) is None
    assert parent_of([(b"tracestate", b"a=b")]) is None


def test_the_state_of_others_is_carried_on_in_its_order() -> None:
    assert states(b"rojo=1, t61@system=a b ,", b"*bad" * 0, b"congo=t61rc").to_header() == (
        "rojo=1,t61@system=a b,congo=t61rc"
    )


@pytest.mark.parametrize(
    "value",
    [
        b"UPPER=1",
        b"a",
        b"a=",
        b"a==b",
        b"a=b;c=\x01",
        b"a=1,a=2",
        "a=\u00e9".encode("latin-1"),
        b"a=1,not well-formed",
        b"a=" + b"x" * 257,
        b",".join(b"k%d=1" % number for number in range(STATE_MEMBERS + 1)),
        b"a=" + b"x" * 250 + b",b=" + b"x" * 250 + b",c=" + b"x" * 20,
    ],
)
def test_a_state_that_is_not_well_formed_or_too_long_is_left_out_whole(value: bytes) -> None:
    assert not states(value)


def test_so_much_of_a_state_is_carried_on() -> None:
    longest = b"a=%s,b=%s" % (b"x" * 254, b"x" * (STATE_CHARACTERS - 259))
    assert len(longest) == STATE_CHARACTERS
    assert states(longest).to_header() == longest.decode()
    assert not states(longest + b"x")
    most = b",".join(b"k%d=1" % number for number in range(STATE_MEMBERS))
    assert len(states(most)) == STATE_MEMBERS


@given(
    st.lists(
        st.tuples(st.sampled_from([b"traceparent", b"tracestate", b"other"]), st.binary(max_size=600)),
        max_size=5,
    )
)
def test_any_headers_give_a_parent_of_known_size_or_none(headers: list[tuple[bytes, bytes]]) -> None:
    found = parent_of([*headers, (b"traceparent", GOOD)])
    if found is not None:
        assert found.is_valid
        assert len(found.trace_state.to_header()) <= STATE_CHARACTERS
        assert found.trace_flags <= 3
