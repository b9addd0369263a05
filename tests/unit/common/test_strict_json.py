"""JSON as the standard has it, and nothing that only Python reads."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput, openai_body
from common.strict_json import parse_json

ODD = {
    "infinity": b'{"tflops": Infinity}',
    "minus infinity": b"[-Infinity]",
    "not a number": b"[NaN]",
    "a float without end": b"[1e400]",
    "more digits than Python reads": b"[" + b"9" * 5000 + b"]",
    "more digits than a float has": b"1" * 310,
    "the same key twice": b'{"role": "agent", "role": "member"}',
    "half a pair": b'{"models": ["\\ud800"]}',
    "half a pair as a key": b'{"\\udc00": 1}',
    "too deep": b"[" * 100_000,
    "not UTF-8": b'"\xff"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "cut off": b'{"a": ',
    "empty": b"",
}


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD.keys())
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match="the body") as refused:
        parse_json(raw)
    assert len(refused.value.message) < 200


def test_the_line_of_a_mistake_is_named() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_json(b'{\n  "a": 1,\n  b\n}')
    assert refused.value.param == "line 3, column 3"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**298), 10**298)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@given(JSON, st.booleans())
def test_all_that_is_json_passes_as_it_is(content: object, ascii_only: bool) -> None:
    assert parse_json(json.dumps(content, ensure_ascii=ascii_only).encode()) == content


@given(st.binary())
def test_other_bytes_are_refused_and_never_break_anything(raw: bytes) -> None:
    try:
        content = parse_json(raw)
    except InvalidInput as error:
        json.dumps(openai_body(error), ensure_ascii=False).encode()
    else:
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


def test_an_error_that_quotes_anything_can_be_sent() -> None:
    body = openai_body(InvalidInput("\ud800\x1b[2J is wrong", param="\udfff"))
    assert "\\ud800\\x1b[2J is wrong" in json.dumps(body, ensure_ascii=False).encode().decode().replace(
        "\\\\", "\\"
    )


def test_a_key_that_stands_twice_is_found_in_time_that_grows_with_the_body_alone() -> None:
    """Comparing each key with all others would take minutes."""
    members = ",".join(f'"{number}":0' for number in range(200_000))
    began = time.process_time()
    with pytest.raises(InvalidInput, match='"199999" stands twice'):
        parse_json(f'{{{members},"199999":0}}'.encode())
    assert time.process_time() - began < 5
