"""JSON of the encoder that is made once is that of ``json.dumps``."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.compact_json import compact

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_it_is_as_json_has_it(value: object) -> None:
    assert compact(value) == json.dumps(value, separators=(",", ":"))


def test_what_json_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError):
        compact({"a": {1, 2}})
