"""What is wrong is refused with the place of the mistake, and never breaks anything."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ComputilityError, InvalidInput
from common.resources import KINDS, parse_resource
from finetune.api.requests import parse_create_job
from tests.fixtures.extremes import documents
from tests.unit.gate.driving import EXTREME, assert_told

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from((10**400, -1, 2**63, 10**15 + 1))
    | st.floats()
    | st.text()
    | st.sampled_from(("\ud800", "a\n", "\x00", "x" * 5000, "$(ENGINE_KEY)")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values of a document."""
    yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*path, key))


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_with_anything_anywhere_is_taken_or_refused_by_name(kind: str) -> None:
    @EXTREME
    @given(documents(kind), JSON, st.text() | st.just("\ud800"), st.data())
    def check(document: dict[str, Any], odd: Any, key: str, data: st.DataObject) -> None:
        *path, last = data.draw(st.sampled_from([place for place in places(document) if place][:200]))
        place: Any = document
        for part in path:
            place = place[part]
        place[last] = odd
        if isinstance(place, dict) and data.draw(st.booleans()):
            place[key] = odd
        try:
            parse_resource(document)
        except InvalidInput as error:
            assert_told(error)

    check()


@EXTREME
@given(
    JSON, st.sampled_from(("model", "training_file", "suffix", "metadata", "seed", "method", "computility"))
)
def test_a_job_asked_for_with_anything_is_taken_or_refused(odd: Any, field: str) -> None:
    body = {"model": "m", "training_file": "file-1", field: odd}
    try:
        parse_create_job(json.dumps(body).encode())
    except ComputilityError as error:
        assert_told(error)
