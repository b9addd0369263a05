"""Templates of ``-o jsonpath=``."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput
from control.console.tables.jsonpath import JsonPath

LIST: dict[str, Any] = {
    "kind": "List",
    "items": [
        {"metadata": {"name": "a", "labels": {"x.io/y": "1"}}, "n": 1},
        {"metadata": {"name": "b"}, "n": {"m": [1, 2]}},
    ],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.items[*].metadata.name}", "a b"),
        (".items[0].metadata.name", "a"),
        ("items[-1].metadata.name", "b"),
        ("$.kind", "List"),
        ('{range .items[*]}{.metadata.name}{"\\t"}{.n}{"\\n"}{end}', 'a\t1\nb\t{"m": [1, 2]}\n'),
        ("{range .items[*]}{.n.m[*]};{end}", ";1 2;"),
        ("{.items[0].metadata.labels['x\\.io/y']}", "1"),
        ("{.items[*].missing.too}", ""),
        ("kind: {.kind}!", "kind: List!"),
        ("{.items[7].n}", ""),
    ],
)
def test_what_a_template_makes(template: str, text: str) -> None:
    assert JsonPath(template).of(LIST) == text


def test_the_whole_document() -> None:
    assert json.loads(JsonPath("{.}").of(LIST)) == LIST


@pytest.mark.parametrize(
    "template", ["{.a", "{end}", "{range .items[*]}", "{..name}", "{.a[?(@.b)]}", '{"a}']
)
def test_what_is_not_understood_is_refused(template: str) -> None:
    with pytest.raises(InvalidInput, match="jsonpath"):
        JsonPath(template)


@given(st.text(alphabet="{}[].*'\"$@ab0-9 rangeend\\n", max_size=40))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    try:
        path = JsonPath(text)
    except InvalidInput:
        return
    path.of(LIST)


@given(st.lists(st.sampled_from(["a", "b-c", "x.y"]), min_size=1, max_size=4), st.integers())
def test_a_field_is_found_however_it_is_named(names: list[str], value: int) -> None:
    document: Any = value
    for name in reversed(names):
        document = {name: document}
    path = "".join(f"['{name}']" for name in names)
    assert JsonPath(f"{{{path}}}").of(document) == str(value)
