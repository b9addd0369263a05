"""Nothing ends without a word before it: of use, of time, and of what is carried over."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.allotments import Allotment, Taken
from billing.core.order_notices import notices_of
from billing.core.products import DAY_MS

MONTH = 30 * DAY_MS
PACK = Allotment("acme/po-1", "acme", "tokens", 100, 900, 0, MONTH)
CARRIED = replace(PACK, carried=20, carried_until_ms=2 * MONTH)


def told(terms: Allotment, taken: Taken, at_ms: int) -> list[str]:
    return [notice.name for notice in notices_of(terms, taken, at_ms)]


@pytest.mark.parametrize(
    ("terms", "taken", "days", "names"),
    [
        (PACK, Taken(79), 1, []),
        (PACK, Taken(80), 1, ["nearly"]),
        (PACK, Taken(100), 1, ["nearly", "used"]),
        (PACK, Taken(), 22.9, []),
        (PACK, Taken(), 23, ["end-7"]),
        (PACK, Taken(), 29, ["end-7", "end-1"]),
        (PACK, Taken(), 30, ["end"]),
        (PACK, Taken(100), 30, []),
        (replace(PACK, from_ms=MONTH - 3 * DAY_MS), Taken(), 29, ["end-1"]),
        (replace(PACK, from_ms=MONTH - 3 * DAY_MS), Taken(), 27.5, []),
        (CARRIED, Taken(10), 30, ["term"]),
        (CARRIED, Taken(10), 53, ["term", "end-7"]),
        (CARRIED, Taken(30, 20), 53, ["term"]),
        (CARRIED, Taken(10), 60, ["term", "end"]),
    ],
)
def test_what_is_told_by_a_moment(terms: Allotment, taken: Taken, days: float, names: list[str]) -> None:
    assert told(terms, taken, int(days * DAY_MS)) == names


def test_a_notice_says_how_much_and_what_comes_next() -> None:
    [nearly, used] = notices_of(PACK, Taken(100), 5)
    assert nearly.message == "80 % of order acme/po-1 are used: 100 of 100 tokens"
    assert used.message == "order acme/po-1 is used up: 100 tokens; what follows is owed in money"
    assert (nearly.warns, used.warns) == (False, True)
    [term] = notices_of(CARRIED, Taken(10), MONTH)
    assert term.message == (
        "90 tokens of order acme/po-1 were unused when it ended; 20 of these can be used later"
    )
    assert term.at_ms == MONTH
    [week] = notices_of(replace(PACK, unit="device_seconds"), Taken(), 23 * DAY_MS)
    assert week.message == "100 device-seconds of order acme/po-1 are unused and end within 7 days"


@given(st.integers(0, 100), st.integers(0, 70), st.booleans())
def test_nothing_unused_ends_without_two_words_before(used: int, day: int, carries: bool) -> None:
    """Whoever looks once a day from the beginning has been told a week and a day before."""
    terms, seen = (CARRIED if carries else PACK), set[str]()
    for today in range(day + 1):
        seen.update(told(terms, Taken(used), today * DAY_MS))
        if "end" in seen:
            assert {"end-7", "end-1"} <= seen
