"""What an outcome may say, and the tags that it is reported by."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.outcomes import Outcome, Work, id_of, shared_tags
from billing.core.tags import TAGS_BYTES, check_tags_size
from common.errors import InvalidInput

pytestmark = pytest.mark.unit
T42 = Work("task", "T-42")


def said(**changes: Any) -> Outcome:
    return Outcome(**{"id": "o-1", "tenant": "acme", "work": T42, "name": "ticket_resolved", **changes})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", ""),
        ("id", "x" * 129),
        ("id", "a\nb"),
        ("name", ""),
        ("name", "x" * 65),
        ("name", 7),
        ("count", 0),
        ("count", True),
        ("count", 1.5),
        ("count", 10**6 + 1),
        ("value_microcredits", 10**15 + 1),
        ("value_microcredits", 0.1),
        ("value_microcredits", None),
        ("quality_millis", -1),
        ("quality_millis", 1001),
        ("at_ms", -1),
        ("tags", {"a": 1}),
        ("tags", {"": "x"}),
        ("tags", {"task": "T-43"}),
        ("tags", {"a": "x" * 400, "b": "x" * 400}),
    ],
)
def test_what_cannot_be_is_refused_by_name(path: str, value: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        said(**{path: value})
    assert (refused.value.param or "").startswith(path.removesuffix("_ms"))


@pytest.mark.parametrize("work", [("task", ""), ("task", "x" * 513), ("team", "\u200b"), ("", "x")])
def test_work_is_told_by_a_tag_that_can_be(work: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        Work(*work)
    assert refused.value.param == ("task" if work[0] == "task" else "tag")


def test_a_task_has_an_outcome_of_a_name_once_and_other_work_has_many() -> None:
    assert id_of(T42, "ticket_resolved") == "T-42:ticket_resolved"
    assert id_of(Work("team", "search"), "sale") is None


def test_outcomes_that_say_something_else_are_told_apart() -> None:
    others = [
        said(),
        said(id="o-2"),
        said(count=2),
        said(value_microcredits=1),
        said(quality_millis=0),
        said(at_ms=0),
        said(project="web"),
        said(tags={"team": "search"}),
        said(work=Work("team", "T-42")),
        said(name="sale"),
    ]
    assert len({one.digest() for one in others}) == len(others)
    assert said(tags={"a": "1", "b": "2"}).digest() == said(tags={"b": "2", "a": "1"}).digest()


def test_the_tags_of_a_report_are_its_own_and_those_that_all_usage_shares() -> None:
    shared = shared_tags(
        [{"task": "T-42", "team": "search", "step": "1"}, {"task": "T-42", "team": "search", "step": "2"}]
    )
    assert shared == {"task": "T-42", "team": "search"}
    assert said(tags={"team": "ads"}).tags_with(shared) == {"task": "T-42", "team": "ads"}
    assert shared_tags([]) == {}


TEXTS = st.text(st.characters(exclude_categories=["C", "Z"], max_codepoint=0x2000), min_size=1, max_size=60)


@given(st.dictionaries(TEXTS, TEXTS, max_size=16), st.dictionaries(TEXTS, TEXTS, max_size=16))
def test_reported_tags_are_bounded_and_have_all_of_its_own(
    own: dict[str, str], shared: dict[str, str]
) -> None:
    try:
        outcome = said(tags=own | {"task": "T-42"})
    except InvalidInput:
        return
    tags = outcome.tags_with(shared)
    assert tags.items() >= {**own, "task": "T-42"}.items()
    check_tags_size("", tags)
    assert sum(map(len, tags)) <= TAGS_BYTES
