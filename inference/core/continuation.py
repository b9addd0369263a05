"""An answer that broke off, continued by another engine: what that one is asked.

The engine is given the tokens of the prompt and those of the answer so far, in place of the text, so that it
goes on from the very tokens and not from others that make up the same text.
"""

from __future__ import annotations

import json
from typing import Any

from inference.core.body import InferenceRequest
from inference.core.delivered import BreakPoint

COMPLETION_TOKENS = 16
"""What a completion may have where nothing is said."""
_TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
_SEEDS = 2**63


def continued_body(
    request: InferenceRequest, backend_model: str, cache_salt: str, point: BreakPoint
) -> bytes | None:
    """The body for the engine that goes on; None where none can: the answer has all the tokens that it may
    have, or text that the client has would have to be made again, and is drawn by chance.

    A seed is another one, by what was made already: the same would draw the same chances again.
    """
    if point.given and not (request.continuable and request.continuable.greedy):
        return None
    # The prompt is not parsed: it may be long, and many streams break at once.
    options = request.rest[request.prompt_bytes : -1] + request.ending.encode()
    content: dict[str, Any] = json.loads(b"{" + options.removeprefix(b",") + b"}")
    made = len(point.tokens)
    if request.task == "completions":
        content.setdefault("max_tokens", COMPLETION_TOKENS)
    for name in _TOKEN_LIMITS:
        if content.get(name) is not None:
            content[name] -= made
            if content[name] <= 0:
                return None
    if content.get("min_tokens"):
        content["min_tokens"] = max(0, content["min_tokens"] - made)
    if content.get("seed") is not None:
        content["seed"] = (content["seed"] + made) % _SEEDS
    content.update(model=backend_model, cache_salt=cache_salt, return_token_ids=True)
    ids = point.prompt + b"".join(b",%d" % token for token in point.tokens)
    head = json.dumps(content, separators=(",", ":")).encode()[:-1]
    if request.task == "completions":
        return b'%b,"prompt":[%b]}' % (head, ids)
    prompt = request.rest[1 : request.prompt_bytes]
    return b'%b,%b,"kv_transfer_params":{"prompt_token_ids":[%b]}}' % (head, prompt, ids)
