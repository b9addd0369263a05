"""JSON Patch and merge patches."""

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput
from control.console.documents.documents import merged
from control.console.documents.json_patch import patched

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "/", "~"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab/~"), inner, max_size=3),
    max_leaves=8,
)
PATHS = st.lists(st.sampled_from(["a", "b", "~1", "~0", "0", "1", "-"]), max_size=3).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)


@pytest.mark.parametrize(
    ("before", "operation", "after"),
    [
        ({"a": 1}, {"op": "add", "path": "/b", "value": 2}, {"a": 1, "b": 2}),
        ({"a": [1, 3]}, {"op": "add", "path": "/a/1", "value": 2}, {"a": [1, 2, 3]}),
        ({"a": [1]}, {"op": "add", "path": "/a/-", "value": 2}, {"a": [1, 2]}),
        ({"a": 1, "b": 2}, {"op": "remove", "path": "/b"}, {"a": 1}),
        ({"a": [1, 2]}, {"op": "replace", "path": "/a/0", "value": 9}, {"a": [9, 2]}),
        ({"a": 1}, {"op": "replace", "path": "", "value": 5}, 5),
        ({"a": {"b": 1}}, {"op": "move", "from": "/a/b", "path": "/c"}, {"a": {}, "c": 1}),
        ({"a": {"b": 1}}, {"op": "copy", "from": "/a", "path": "/c"}, {"a": {"b": 1}, "c": {"b": 1}}),
        ({"x/y": {"~": 1}}, {"op": "remove", "path": "/x~1y/~0"}, {"x/y": {}}),
        ({"a": 1}, {"op": "test", "path": "/a", "value": 1}, {"a": 1}),
    ],
)
def test_operations(before: Any, operation: dict[str, Any], after: Any) -> None:
    assert patched(before, [operation]) == after


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/b"},
        {"op": "replace", "path": "/b", "value": 1},
        {"op": "test", "path": "/a", "value": 2},
        {"op": "add", "path": "/a"},
        {"op": "add", "path": "/a/b", "value": 1},
        {"op": "move", "from": "/l", "path": "/l/0"},
        {"op": "remove", "path": "/l/2"},
        {"op": "remove", "path": "/l/01"},
        {"op": "remove", "path": "l"},
        {"op": "remove", "path": ""},
        {"op": "fly", "path": "/a"},
        {"path": "/a"},
        [],
        None,
    ],
)
def test_what_cannot_be_done_names_the_operation(operation: Any) -> None:
    with pytest.raises(InvalidInput, match=r"operation \[0\]"):
        patched({"a": 1, "l": [0]}, [operation])


@given(
    VALUES,
    st.lists(
        st.fixed_dictionaries(
            {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": PATHS},
            optional={"value": VALUES, "from": PATHS},
        ),
        max_size=4,
    ),
)
def test_a_patch_is_applied_or_refused_and_leaves_the_document_as_it_was(
    document: Any, operations: Any
) -> None:
    before = copy.deepcopy(document)
    with contextlib.suppress(InvalidInput):
        patched(document, operations)
    assert document == before


@given(VALUES, VALUES)
def test_a_merge_patch_is_in_force_afterwards_and_again_changes_nothing(document: Any, patch: Any) -> None:
    once = merged(document, patch)
    assert merged(once, patch) == once


def test_a_merge_patch_as_its_standard_has_it() -> None:
    for document, patch, result in (
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        (["a", "b"], ["c"], ["c"]),
        ({"a": "foo"}, "bar", "bar"),
    ):
        assert merged(document, patch) == result
