"""Requests under rules: however a text is written in JSON."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from inference.core.apis.parsing import parse_body
from inference.core.body import BodyLimits
from inference.guardrails.policy import rules_of
from inference.guardrails.requests import guarded_request
from inference.guardrails.rules import Rules
from inference.guardrails.streams import stream_under
from inference.guardrails.walking import Hit

GUARD = {"kind": "terms", "action": "mask", "terms": ["red/falcon"], "wholeWords": False}
RULES = Rules(rules_of("g", [GUARD], "input"))
UNSEEN = [chr(code) for code in range(0x20) if chr(code) not in "\t\n\r"] + ["\x7f", "\u200b", "\u00ad"]
SOME = st.sampled_from(UNSEEN).map(lambda one: st.sampled_from([one, ""]))
"""One of them, or nothing."""


def hits(content: Any) -> list[Hit]:
    found: list[Hit] = []
    raw = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()
    guarded_request(parse_body("chat", raw, BodyLimits()), RULES, found.append)
    return found


@given(SOME.flatmap(lambda one: st.lists(one, min_size=9, max_size=9)), st.text("ab \\/{", max_size=8))
def test_what_nobody_sees_hides_nothing(between: list[str], before: str) -> None:
    text = "".join(a + b for a, b in zip("red/falcon", [*between, ""], strict=True))
    assert hits(f"{before} {text} flies")


@given(st.lists(st.booleans(), min_size=10, max_size=10))
def test_json_within_a_text_hides_nothing(escaped: list[bool]) -> None:
    written = [f"\\u{ord(one):04x}" if more else one for one, more in zip("red/falcon", escaped, strict=True)]
    assert hits(json.dumps({"to": "x"}).replace("x", "".join(written)))
    assert hits('{"to": "red\\/falcon"}')


def test_what_tools_of_the_client_are_called_with_is_masked_in_streams() -> None:
    stream = stream_under("chat", RULES, lambda hit: None)
    made = b""
    for piece in ("the red/fal", "con flies"):
        call = {"index": 0, "type": "custom", "custom": {"name": "f", "input": piece}}
        choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}
        made += stream.feed(b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n")
    end = {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
    made += stream.feed(b"data: " + json.dumps({"id": "x", "choices": [end]}).encode() + b"\n\n")
    events = [json.loads(line[6:]) for line in made.decode().splitlines() if line]
    calls = [call for one in events for call in one["choices"][0]["delta"].get("tool_calls", ())]
    assert "".join(call["custom"]["input"] for call in calls) == "the [REMOVED] flies"
