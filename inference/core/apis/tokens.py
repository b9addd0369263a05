"""Texts as a model's tokens, and back: bodies of tokenize and detokenize."""

from __future__ import annotations

from typing import Any

from common.errors import InvalidInput
from inference.core.body import Api, BodyLimits, InferenceRequest, for_any_engine, prompt_first
from inference.core.fields import is_bool, is_count, is_filled_text, is_text, optional, required, wrong_type
from inference.core.media import check_urls
from inference.core.messages import check_messages

MAX_TOKENS = 1_000_000
"""Of one text that is made of tokens again."""
_MAX_TOKEN = 2**31 - 1


def parse_tokenize(content: dict[str, Any], limits: BodyLimits) -> InferenceRequest:
    """Check a body: a prompt, or messages as of a chat. Raises ``InvalidInput`` naming the field."""
    for name in ("add_special_tokens", "add_generation_prompt", "return_token_strs"):
        optional(content, name, is_bool, "true or false")
    if content.get("messages") is not None:
        check_urls(content["messages"], "messages", limits.media_hosts)
        check_messages(content)
        return _request("tokenize", content, "messages")
    if not is_text(required(content, "prompt")):
        wrong_type("prompt", "a string", content["prompt"])
    return _request("tokenize", content, "prompt")


def parse_detokenize(content: dict[str, Any], _: BodyLimits) -> InferenceRequest:
    """Check a body. Raises ``InvalidInput`` naming the field."""
    tokens = required(content, "tokens")
    if not isinstance(tokens, list):
        wrong_type("tokens", "a list of token ids", tokens)
    if len(tokens) > MAX_TOKENS:
        raise InvalidInput(f"tokens: at most {MAX_TOKENS}, not {len(tokens)}", "array_too_long", "tokens")
    for position, token in enumerate(tokens):
        if not is_count(token) or token > _MAX_TOKEN:
            wrong_type(f"tokens[{position}]", "a token id", token)
    return _request("detokenize", content, "tokens")


def _request(api: Api, content: dict[str, Any], field: str) -> InferenceRequest:
    model = required(content, "model")
    if not is_filled_text(model):
        wrong_type("model", "a non-empty string", model)
    rest, _ = prompt_first(for_any_engine(content), (field,))
    return InferenceRequest(
        task="completions",
        model=model,
        stream=False,
        usage_shown="none",
        choices_per_prompt=1,
        prompts=1,
        token_limits=(),
        rest=rest,
        one_leg="api",
        other_api=api,
    )
