"""Bodies of rerank, score, tokenize and detokenize: what passes, what is refused, and by which path."""

import json
from typing import Any

import pytest

from common.errors import InvalidInput
from inference.core.apis.parsing import parse_body
from inference.core.body import Api, BodyLimits, InferenceRequest, engine_body

LIMITS = BodyLimits(inputs=4)
BODIES: dict[Api, dict[str, Any]] = {
    "rerank": {"query": "q", "documents": ["a", "b"]},
    "score": {"text_1": "q", "text_2": ["a", "b"]},
    "tokenize": {"prompt": "a b"},
    "detokenize": {"tokens": [1, 2]},
}
IMAGE = {"content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/"}}]}


def parse(api: Api, **change: Any) -> InferenceRequest:
    content = {"model": "m", **BODIES[api], **change}
    given = {name: value for name, value in content.items() if value is not ...}
    return parse_body(api, json.dumps(given).encode(), LIMITS)


@pytest.mark.parametrize("api", BODIES)
def test_an_engine_is_told_what_was_asked(api: Api) -> None:
    request = parse(api, priority=1, new=2)
    told = json.loads(engine_body(request, "weights", "acme"))
    told.pop("cache_salt", None)
    assert told == {"model": "weights", **BODIES[api], "new": 2}
    assert request.api == api


def test_a_score_has_as_many_texts_as_both_sides() -> None:
    assert parse("score").prompts == 3
    assert parse("rerank").prompts == 3
    assert parse("score", text_1=..., text_2=..., queries=["a"], documents="b").prompts == 2


@pytest.mark.parametrize(
    ("api", "change", "param"),
    [
        ("rerank", {"model": ...}, "model"),
        ("rerank", {"query": ...}, "query"),
        ("rerank", {"query": ["q"]}, "query"),
        ("rerank", {"documents": []}, "documents"),
        ("rerank", {"documents": ["a", 3]}, "documents[1]"),
        ("rerank", {"documents": ["a"] * 4}, "documents"),
        ("rerank", {"documents": [IMAGE]}, "documents[0].content[0].image_url"),
        ("rerank", {"top_n": -1}, "top_n"),
        ("score", {"text_2": ...}, "text_2"),
        ("score", {"text_1": ...}, "text_1"),
        ("score", {"text_1": ["a", "b", "c"]}, "text_1"),
        ("score", {"text_1": IMAGE}, "text_1.content[0].image_url"),
        ("tokenize", {"prompt": 3}, "prompt"),
        ("tokenize", {"prompt": ...}, "prompt"),
        ("tokenize", {"messages": []}, "messages"),
        ("tokenize", {"messages": [{"role": "user", **IMAGE}]}, "messages[0].content[0].image_url"),
        ("tokenize", {"add_special_tokens": 1}, "add_special_tokens"),
        ("detokenize", {"tokens": "x"}, "tokens"),
        ("detokenize", {"tokens": [1, -1]}, "tokens[1]"),
        ("detokenize", {"tokens": [1, 2**40]}, "tokens[1]"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(api: Api, change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(api, **change)
    assert refused.value.param == param
    assert param in refused.value.message
