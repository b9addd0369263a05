"""guardrails test as people see it."""

import json
from typing import Any

import httpx
import pytest

from tests.unit.control.cli.test_commands import control, run

__all__ = ["control"]


@pytest.mark.usefixtures("control")
def test_a_text_is_tried_without_a_model(control: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answer: dict[str, Any] = {
        "hits": [{"guard": "personal", "action": "mask", "count": 1}],
        "blockedBy": None,
        "text": "[bold] to [EMAIL]",
    }
    seen = control(lambda request: httpx.Response(200, json=answer))
    assert run("guardrails", "test", "acme", "[bold] to jo@example.org") == 0
    shown = capsys.readouterr().out
    assert "[bold] to [EMAIL]" in shown
    assert "personal" in shown
    answer.update(blockedBy="falcon", text=None)
    assert run("guardrails", "test", "acme", "a falcon", "--direction", "output") == 0
    assert "blocked by falcon" in capsys.readouterr().out
    asked = [json.loads(request.content) for request in seen]
    assert asked[0] == {"name": "acme", "text": "[bold] to jo@example.org", "direction": "input"}
    assert asked[1]["direction"] == "output"
