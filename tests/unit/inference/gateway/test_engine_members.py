"""What clients are given of an engine's answer: all that they read, nothing of its empty workings."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.engine_members import NAMES, without_empty_members

pytestmark = pytest.mark.unit
TEXTS = st.one_of(
    st.text(max_size=40), st.sampled_from([f',"{name}":null' for name in NAMES] + ['","metrics":null,"'])
)
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=3), max_leaves=5
)
OBJECTS = st.dictionaries(st.sampled_from(["id", "content", "usage", *NAMES]) | TEXTS, VALUES, max_size=8)


@given(st.lists(OBJECTS, max_size=3), OBJECTS)
def test_nothing_is_lost_but_empty_members_of_the_engine(
    choices: list[dict[str, object]], more: dict[str, object]
) -> None:
    answer = {"id": "1", "choices": [{"index": 0, **one} for one in choices], **more}
    for separators in ((",", ":"), (", ", ": ")):
        sent = json.dumps(answer, separators=separators, ensure_ascii=False).encode()
        left = json.loads(without_empty_members(sent))
        compact = separators == (",", ":")
        assert left == (_without(answer) if compact else answer)


def _without(answer: dict[str, object]) -> dict[str, object]:
    def clean(one: object) -> object:
        if isinstance(one, dict):
            first = next(iter(one), None)
            kept = {k: v for k, v in one.items() if k == first or not (k in NAMES and v is None)}
            return {name: clean(value) for name, value in kept.items()}
        return [clean(part) for part in one] if isinstance(one, list) else one

    return clean(answer)  # type: ignore[return-value]
