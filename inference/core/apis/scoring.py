"""How well texts fit each other: bodies of rerank and score, of models that embed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from common.errors import InvalidInput
from inference.core.body import Api, BodyLimits, InferenceRequest, for_any_engine, prompt_first
from inference.core.fields import is_count, is_filled_text, optional, required, wrong_type
from inference.core.media import check_urls
from inference.core.reported import told_class, told_for_reports

_PAIRS = (("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2"))
"""Names of the two sides of a score; the first pair that is there counts, as for an engine."""


def parse_rerank(content: dict[str, Any], limits: BodyLimits) -> InferenceRequest:
    """Check a body. Raises ``InvalidInput`` naming the field by its path."""
    _one_side(content, "query")
    if isinstance(content["query"], list):
        wrong_type("query", "a string", content["query"])
    documents = _one_side(content, "documents")
    optional(content, "top_n", is_count, "a whole number of at least 0")
    return _request("rerank", content, documents + 1, ("query", "documents"), limits)


def parse_score(content: dict[str, Any], limits: BodyLimits) -> InferenceRequest:
    """Check a body. Raises ``InvalidInput`` naming the field by its path."""
    pair = next((names for names in _PAIRS if all(content.get(name) is not None for name in names)), None)
    if pair is None:
        missing = "text_1" if content.get("text_1") is None else "text_2"
        required(content, missing)
    assert pair is not None
    left, right = (_one_side(content, name) for name in pair)
    if left not in (1, right):
        message = f"{pair[0]} must be one text or as many as {pair[1]}: {right}, not {left}"
        raise InvalidInput(message, "invalid_value", pair[0])
    return _request("score", content, left + right, pair, limits)


def _request(
    api: Api, content: dict[str, Any], texts: int, sides: tuple[str, str], limits: BodyLimits
) -> InferenceRequest:
    model = required(content, "model")
    if not is_filled_text(model):
        wrong_type("model", "a non-empty string", model)
    if texts > limits.inputs:
        _too_many(sides[1], texts, limits.inputs)
    check_urls(content[sides[0]], sides[0], limits.media_hosts)
    check_urls(content[sides[1]], sides[1], limits.media_hosts)
    user, tags = told_for_reports(content)
    rest, prompt_bytes = prompt_first(for_any_engine(content), sides)
    return InferenceRequest(
        task="embeddings",
        model=model,
        stream=False,
        usage_shown="none",
        choices_per_prompt=1,
        prompts=texts,
        token_limits=(),
        rest=rest,
        one_leg="embeddings",
        prompt_bytes=prompt_bytes,
        user=user,
        tags=tags,
        data_class=told_class(content.get("metadata")),
        other_api=api,
    )


def _one_side(content: Mapping[str, Any], name: str) -> int:
    """How many texts there are."""
    value = required(content, name)
    if not isinstance(value, str | dict | list) or value in ("", [], {}):
        wrong_type(name, "a non-empty string or a list of them", value)
    if not isinstance(value, list):
        return 1
    for position, one in enumerate(value):
        if not isinstance(one, str | dict) or not one:
            wrong_type(f"{name}[{position}]", "a non-empty string", one)
    return len(value)


def _too_many(name: str, texts: int, limit: int) -> NoReturn:
    message = f"{name}: {texts} texts in one request, where {limit} are allowed; send several requests"
    raise InvalidInput(message, "array_too_long", name)
