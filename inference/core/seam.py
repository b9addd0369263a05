"""How the stream of an engine that goes on follows on that of one that broke."""

from __future__ import annotations

import json
from typing import Any

from common.errors import EngineFailed
from inference.core.delivered import BreakPoint
from inference.core.fields import is_whole

NOTE = b": continued by another engine\n\n"
"""A comment in the client's stream where it was continued: clients that look for events do not see it."""


class Seam:
    """Makes the events of the engine that goes on those that come next in the client's stream.

    ``id_`` and ``created`` are what the client was told. ``point``: where the engine goes on; None where the
    client was given nothing but the role.
    """

    def __init__(self, id_: str, created: int, point: BreakPoint | None = None) -> None:
        self._id = id_
        self._created = created
        self._point = point
        self._again = "" if point is None else point.given
        """What the client has already of the text that comes."""

    def join(self, event: bytes) -> bytes:
        """The event as the client's engine would have sent it; empty when it has been sent already.

        Raises ``EngineFailed`` when it does not follow on what was delivered, or tells no usage.
        """
        if event.startswith((b":", b"\n")) and b"\ndata" not in event:
            return event
        try:
            return self._joined(json.loads(event.removeprefix(b"data:")))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise EngineFailed("the engine that went on sent what is no event of an answer") from error

    def _joined(self, content: dict[str, Any]) -> bytes:
        content["id"], content["created"] = self._id, self._created
        content.pop("prompt_token_ids", None)
        if not content["usage"]:
            raise EngineFailed("the engine that went on tells no token counts")
        if self._point is not None:
            self._move(content["usage"], self._point, total=not content["choices"])
        for choice in content["choices"]:
            if "delta" in choice and choice["delta"].pop("role", None) and not any(choice["delta"].values()):
                return b""
            if "prompt_token_ids" in choice:
                choice["prompt_token_ids"] = None
            self._cut(choice)
        return f"data: {json.dumps(content, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()

    def _move(self, usage: dict[str, Any], point: BreakPoint, total: bool) -> None:
        """Count the tokens of before as those of the answer, as they were counted."""
        made = len(point.tokens)
        if usage["prompt_tokens"] != point.prompt_tokens + made:
            raise EngineFailed("the engine that was to go on began anew")
        completion = made + usage["completion_tokens"]
        if not total:
            completion = max(completion, point.counted)
        usage["prompt_tokens"], usage["completion_tokens"] = point.prompt_tokens, completion
        usage["total_tokens"] = point.prompt_tokens + completion
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):  # of what the engine that goes on was given, some is the answer's
            parts = {name: tokens for name, tokens in details.items() if is_whole(tokens)}
            details.update({name: min(tokens, point.prompt_tokens) for name, tokens in parts.items()})

    def _cut(self, choice: dict[str, Any]) -> None:
        """Take out of the text what the client has already."""
        if not self._again:
            return
        holder, name = (choice["delta"], "content") if "delta" in choice else (choice, "text")
        text = holder.get(name) or ""
        known = min(len(text), len(self._again))
        ended = choice.get("finish_reason") is not None
        if text[:known] != self._again[:known] or (ended and known < len(self._again)):
            raise EngineFailed("the engine that was to go on answers otherwise than the one before")
        self._again = self._again[known:]
        if known:
            holder[name] = text[known:]


def missing_usage(point: BreakPoint, engine_kind: str, model: str) -> bytes:
    """The last event, which the engine owed, of an answer that is whole."""
    usage = {
        "prompt_tokens": point.prompt_tokens,
        "total_tokens": point.prompt_tokens + point.counted,
        "completion_tokens": point.counted,
    }
    content = {
        "id": point.id,
        "object": engine_kind,
        "created": point.created,
        "model": model,
        "choices": [],
        "usage": usage,
    }
    return f"data: {json.dumps(content, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()


def told_with_role(event: bytes) -> tuple[str, int] | None:
    """``id`` and ``created`` of the event that tells a chat's role and nothing else; None of any other."""
    try:
        content = json.loads(event.removeprefix(b"data:"))
        [choice] = content["choices"]
        said = dict(choice["delta"])
        if not said.pop("role", None) or any(said.values()) or choice.get("finish_reason") is not None:
            return None
        return str(content["id"]), int(content["created"])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
