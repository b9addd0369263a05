"""The most that a request can use, as far as that can be known before it is answered."""

from __future__ import annotations

from typing import NamedTuple

from inference.core.body import InferenceRequest

TEMPLATE_TOKENS = 1024
"""What a chat template may add to the bytes of a request: its own prompt, and how it shows tools."""
ASSUMED_CONTEXT_TOKENS = 131_072
"""Of a model whose context nobody has told."""
_MEDIA = (b'_url":', b'"input_audio":', b'"type":"image"', b'"type":"document"')
"""Members of what is no text: how many tokens that is does not follow from the bytes of the request."""
_PAIRS = ("rerank", "score")
"""Texts that an engine may read several times, each time with another one."""


class Most(NamedTuple):
    """Tokens that a request may be billed at most."""

    prompt: int
    completion: int


def most_of(request: InferenceRequest, context_tokens: int | None) -> Most:
    """No token of a prompt is less than a byte of it, and no prompt or answer is longer than the context,
    where that is known. An answer has at most what the request says or, where it says nothing, the whole
    context."""
    context = context_tokens or ASSUMED_CONTEXT_TOKENS
    prompt = context * (request.prompts + (request.api in _PAIRS))
    if request.api not in _PAIRS:
        texts = len(request.rest) + TEMPLATE_TOKENS * request.prompts
        if any(mark in request.rest for mark in _MEDIA):
            prompt = prompt if context_tokens else max(prompt, texts)
        else:
            prompt = min(prompt, texts) if context_tokens else texts
    if request.task == "embeddings":
        return Most(prompt, 0)
    said = max((limit for _, limit in request.token_limits), default=context)
    return Most(prompt, min(said, context) * request.choices_per_prompt * request.prompts)
