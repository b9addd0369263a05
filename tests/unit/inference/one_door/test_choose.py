"""Who is asked of the candidates of a Route, and in which order."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data_class import DATA_CLASSES, DataClass, is_within
from inference.core.one_door.asked import Asked
from inference.core.one_door.choose import Candidate, Outside, When, decide, place_of

OUT = Outside("eu", "internal")
REGULATED: tuple[DataClass, ...] = ("regulated",)
ONLY_REGULATED = When(data_classes=REGULATED)
NOON_MS = 12 * 3_600_000


def asked(**facts: Any) -> Asked:
    return Asked("chat", **facts)


def names(request: Asked, *candidates: Candidate, local_ms: int = NOON_MS) -> list[str]:
    places = {one.model: 0.5 for one in candidates}
    return [one.model for one in decide(request, candidates, places, local_ms).asked]


def refusal(request: Asked, candidate: Candidate, local_ms: int = NOON_MS) -> str:
    decision = decide(request, [candidate], {candidate.model: 0.5}, local_ms)
    return decision.refused[0].reason if decision.refused else ""


@pytest.mark.parametrize(
    ("request_", "candidate", "reason"),
    [
        (asked(), Candidate("a"), ""),
        (asked(), Candidate("a", known=False), "unknown"),
        (asked(), Candidate("a", paused=True), "paused"),
        (asked(), Candidate("a", apis=("embeddings",)), "api"),
        (asked(data_class="internal"), Candidate("a", outside=OUT), ""),
        (asked(data_class="confidential"), Candidate("a", outside=OUT), "data_class"),
        (asked(data_class="regulated"), Candidate("a"), ""),
        (asked(regions=frozenset({"eu"})), Candidate("a", outside=OUT), ""),
        (asked(regions=frozenset({"us"})), Candidate("a", outside=OUT), "region"),
        (asked(regions=frozenset()), Candidate("a", outside=OUT), "region"),
        (asked(regions=frozenset()), Candidate("a"), ""),
        (asked(tools=True), Candidate("a", outside=replace(OUT, tools=False)), "tools"),
        (asked(tools=True), Candidate("a", when=When(tools=False)), "tools"),
        (asked(), Candidate("a", when=When(tools=True)), "tools"),
        (asked(vision=True), Candidate("a", outside=OUT), "vision"),
        (asked(vision=True), Candidate("a", when=When(vision=True)), ""),
        (asked(answer_tokens=9), Candidate("a", context_tokens=8), "context"),
        (asked(prompt_tokens=9), Candidate("a", when=When(max_prompt_tokens=8)), "length"),
        (asked(prompt_tokens=9), Candidate("a", when=When(min_prompt_tokens=10)), "length"),
        (asked(tags={"team": "a"}), Candidate("a", when=When(tags={"team": "a"})), ""),
        (asked(tags={"team": "b"}), Candidate("a", when=When(tags={"team": "a"})), "tags"),
        (asked(), Candidate("a", when=ONLY_REGULATED), "classes"),
        (asked(), Candidate("a", when=When(hours="08:00-20:00")), ""),
        (asked(), Candidate("a", when=When(hours="20:00-08:00")), "hours"),
        (asked(), Candidate("a", price=5, max_price=5), ""),
        (asked(), Candidate("a", price=6, max_price=5), "price"),
        (asked(), Candidate("a", max_price=5), "price"),
    ],
)
def test_what_keeps_a_candidate_from_a_request(request_: Asked, candidate: Candidate, reason: str) -> None:
    assert refusal(request_, candidate) == reason


def test_lower_orders_come_first_and_what_is_likely_too_short_comes_last() -> None:
    first, second = Candidate("b", order=0), Candidate("a", order=1)
    assert names(asked(), second, first) == ["b", "a"]
    assert names(asked(prompt_tokens=100), replace(first, context_tokens=50), second) == ["a", "b"]


def test_a_candidate_without_weight_is_only_a_fallback_among_its_equals() -> None:
    assert names(asked(), Candidate("a", weight=0), Candidate("b", weight=1)) == ["b", "a"]


def test_units_are_shared_by_weight_and_stay_where_they_are() -> None:
    def first(unit: str, weight: int) -> str:
        candidates = [Candidate("a", weight=weight), Candidate("b", weight=1)]
        places = {one.model: place_of(b"s", "p/r", one.model, unit) for one in candidates}
        return decide(asked(), candidates, places, 0).asked[0].model

    units = [f"u{n}" for n in range(4000)]
    at_three = {unit for unit in units if first(unit, 3) == "a"}
    assert 0.71 < len(at_three) / len(units) < 0.79
    more = {unit for unit in units if first(unit, 9) == "a"}
    assert at_three <= more


CLASSES = st.sampled_from(DATA_CLASSES)
REGIONS = st.sampled_from(["eu", "us", "cn"])
OUTSIDE = st.none() | st.builds(Outside, REGIONS, CLASSES, st.booleans(), st.booleans())
WHEN = st.builds(
    When,
    tools=st.none() | st.booleans(),
    data_classes=st.lists(CLASSES, max_size=2).map(tuple),
    max_prompt_tokens=st.none() | st.integers(0, 50),
)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.sampled_from([f"m{n}" for n in range(8)]),
        order=st.integers(0, 3),
        weight=st.integers(0, 3),
        when=WHEN,
        known=st.booleans(),
        context_tokens=st.none() | st.integers(1, 60),
        outside=OUTSIDE,
    ),
    max_size=8,
    unique_by=lambda one: one.model,
)
ASKED = st.builds(
    Asked,
    st.just("chat"),
    prompt_tokens=st.integers(0, 60),
    answer_tokens=st.integers(0, 60),
    tools=st.booleans(),
    data_class=CLASSES,
    regions=st.none() | st.frozensets(REGIONS),
)


@given(ASKED, CANDIDATES, st.data())
def test_no_decision_lets_data_out_and_each_candidate_is_asked_or_refused(
    request_: Asked, candidates: list[Candidate], data: st.DataObject
) -> None:
    places = {one.model: data.draw(st.floats(0.001, 0.999)) for one in candidates}
    decision = decide(request_, candidates, places, 0)
    for one in decision.asked:
        if one.outside is not None:
            assert is_within(request_.data_class, one.outside.data_class)
            assert request_.regions is None or one.outside.region in request_.regions
    told = sorted([*(one.model for one in decision.asked), *(one.model for one in decision.refused)])
    assert told == sorted(one.model for one in candidates)
    assert decision == decide(request_, candidates[::-1], places, 0) or {
        one.model for one in decision.refused
    } == {one.model for one in decide(request_, candidates[::-1], places, 0).refused}
