"""What requests say of themselves: an event holds it, whatever it is, and no two users become one."""

import json

from hypothesis import given
from hypothesis import strategies as st

from billing.core.tags import (
    MAX_TAGS,
    TAG_NAME_CHARACTERS,
    TAG_VALUE_CHARACTERS,
    check_tags,
    check_tags_size,
    check_user,
    tags_that_fit,
    user_in_reports,
)
from inference.core.reported import told_for_reports

SEEN = st.characters(codec="utf-8", categories=("L", "N", "P", "S"))
TAGS = st.dictionaries(
    st.text(SEEN, min_size=1, max_size=TAG_NAME_CHARACTERS),
    st.text(SEEN, max_size=TAG_VALUE_CHARACTERS),
    max_size=MAX_TAGS,
)
USERS = st.one_of(st.text(), st.text(SEEN, min_size=200, max_size=300), st.just("\ud800"))


@given(user=USERS, tags=TAGS)
def test_whatever_a_client_may_say_has_room_on_an_event(user: str, tags: dict[str, str]) -> None:
    told, kept = told_for_reports({"user": user, "metadata": tags})
    check_user(told)
    check_tags(kept)
    check_tags_size(told, kept)
    assert list(kept.items()) == list(tags.items())[: len(kept)]


@given(one=USERS, other=USERS)
def test_two_users_are_never_one(one: str, other: str) -> None:
    assert (user_in_reports(one) == user_in_reports(other)) == (one == other)


def test_as_many_tags_are_kept_as_fit() -> None:
    tags = {str(number): "x" * 100 for number in range(10)}
    assert len(tags_that_fit("ann", tags)) == 7
    assert len(tags_that_fit("a" * 256, tags)) == 5
    assert tags_that_fit("ann", {"a": "b"}) == {"a": "b"}
    assert len(json.dumps(tags_that_fit("", tags))) > 700
