"""What an answer in one piece may fail, so that a larger model is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference.core.body import InferenceRequest
from inference.core.one_door.schema import holds

Check = Callable[["Answer", "Wanted"], bool]
"""Whether the answer fails."""
_BEGINNING_CHARACTERS = 160
_REFUSALS = (
    "i can't help",
    "i cannot help",
    "i can't assist",
    "i cannot assist",
    "i'm sorry, but i can",
    "i am sorry, but i can",
    "i'm unable to",
    "i am unable to",
    "i won't be able to",
    "i cannot fulfill",
    "i can't fulfill",
    "as an ai language model, i",
    "抱歉,我无法",
    "抱歉,我不能",
    "对不起,我无法",
    "对不起,我不能",
    "es tut mir leid, aber ich kann",
    "je suis désolé, mais je ne peux",
)
"""How models begin when they decline, in lower case."""


@dataclass(frozen=True)
class Answer:
    """One choice. ``text`` is None where it calls tools; ``ended``: why, in the words of its API."""

    text: str | None
    ended: str
    refuses: bool


@dataclass(frozen=True)
class Wanted:
    """What the request asks of the form: JSON at all, and its schema, if it has one."""

    json: bool
    schema: Any


def _truncated(answer: Answer, _: Wanted) -> bool:
    return answer.ended in ("length", "max_tokens")


def _refused(answer: Answer, _: Wanted) -> bool:
    if answer.refuses or answer.ended in ("content_filter", "refusal"):
        return True
    if answer.text is None:
        return False
    text = answer.text.strip().lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").replace("，", ",")
    return not text or text[:_BEGINNING_CHARACTERS].startswith(_REFUSALS)


def _malformed(answer: Answer, wanted: Wanted) -> bool:
    if not wanted.json or answer.text is None:
        return False
    try:
        content = json.loads(answer.text)
    except (ValueError, RecursionError):
        return True
    return not (isinstance(content, dict) if wanted.schema is None else holds(content, wanted.schema))


CHECKS: Mapping[str, Check] = {"truncation": _truncated, "refusal": _refused, "format": _malformed}
"""By the word for what is wrong."""
_NOT_READ = "unreadable"


def check_of(names: Collection[str], request: InferenceRequest) -> Callable[[bytes], str] | None:
    """Says of an answer which of the checks it fails, empty for none; None where nobody looks: the answer is
    streamed, or no text."""
    if not names or request.stream or request.api not in _CHOICES:
        return None
    wanted = _wanted(request) if "format" in names else Wanted(False, None)
    read = _CHOICES[request.api]

    def check(content: bytes) -> str:
        try:
            answers = read(json.loads(content))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return _NOT_READ
        looked_at = [(name, fails) for name, fails in CHECKS.items() if name in names]
        return next((name for one in answers for name, fails in looked_at if fails(one, wanted)), "")

    return check


def _wanted(request: InferenceRequest) -> Wanted:
    told = json.loads(request.rest).get("response_format")
    kind = told.get("type") if isinstance(told, dict) else None
    if kind == "json_schema":
        named = told.get("json_schema")
        return Wanted(True, named.get("schema") if isinstance(named, dict) else None)
    return Wanted(kind == "json_object", None)


def _of_chat(content: dict[str, Any]) -> Sequence[Answer]:
    found = []
    for choice in content["choices"]:
        message = choice["message"]
        text = None if message.get("tool_calls") else message.get("content") or ""
        found.append(Answer(text, choice.get("finish_reason") or "", bool(message.get("refusal"))))
    return found


def _of_completion(content: dict[str, Any]) -> Sequence[Answer]:
    choices = content["choices"]
    return [Answer(choice["text"], choice.get("finish_reason") or "", False) for choice in choices]


def _of_message(content: dict[str, Any]) -> Sequence[Answer]:
    parts = content["content"]
    calls = any(part.get("type") == "tool_use" for part in parts)
    text = None if calls else "".join(part.get("text", "") for part in parts)
    return [Answer(text, content.get("stop_reason") or "", False)]


_CHOICES: Mapping[str, Callable[[dict[str, Any]], Sequence[Answer]]] = {
    "chat": _of_chat,
    "completions": _of_completion,
    "messages": _of_message,
}
"""How an answer of an API tells its choices."""
