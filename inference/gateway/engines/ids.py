"""What engines call requests: it follows from the id that they are sent with."""

from __future__ import annotations

from inference.core.body import InferenceRequest, response_id


def engine_ids(request: InferenceRequest, base: str) -> list[str]:
    """What the engine calls a request that was sent with ``X-Request-Id: base``."""
    if (
        request.api == "responses"
    ):  # the first of its turns, and without tools of an engine's own the only one
        return [f"{response_id(base)}_0"]
    if request.task == "chat":  # also where it is written for another API
        return [f"chatcmpl-{base}"]
    prefix = "cmpl" if request.task == "completions" else "embd"
    return [f"{prefix}-{base}-{i}" for i in range(request.prompts)]
