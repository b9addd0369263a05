"""Which reader a body has, by the API that it is written for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from inference.core.apis.messages import parse_count_tokens, parse_messages
from inference.core.apis.responses import parse_responses
from inference.core.apis.scoring import parse_rerank, parse_score
from inference.core.apis.tokens import parse_detokenize, parse_tokenize
from inference.core.body import Api, BodyLimits, InferenceRequest, parse_object, parse_request

_READERS: Mapping[Api, Callable[[dict[str, Any], BodyLimits], InferenceRequest]] = {
    "messages": parse_messages,
    "count_tokens": parse_count_tokens,
    "responses": parse_responses,
    "rerank": parse_rerank,
    "score": parse_score,
    "tokenize": parse_tokenize,
    "detokenize": parse_detokenize,
}


def parse_body(api: Api, raw: bytes, limits: BodyLimits) -> InferenceRequest:
    """Check a body. Raises ``InvalidInput`` naming the position or, in ``param``, the field, and ``TooLarge``
    for more values than the limit."""
    if api == "chat" or api == "completions" or api == "embeddings":
        return parse_request(api, raw, limits)
    return _READERS[api](parse_object(raw, limits), limits)
