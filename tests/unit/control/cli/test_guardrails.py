"""guardrails test as people see it."""

import json
from typing import Any

import httpx
import pytest

from tests.unit.control.cli.test_commands import control, run

__all__ = ["control"]


@pytest.mark.usefixtures("control")
def test_a_text_is_tried_without_a_model(control: Any, capsys: pytest.CaptureFixture[str]) -> None:
    guards = [
        {"kind": "personal", "action": "mask"},
        {"kind": "terms", "action": "block", "terms": ["falcon"], "direction": "output"},
    ]
    document = {"kind": "Guardrail", "metadata": {"name": "acme"}, "spec": {"guards": guards}}
    seen = control(lambda request: httpx.Response(200, json=document))
    assert run("guardrails", "test", "acme", "[bold] of Falcon, to jo@example.org") == 0
    shown = capsys.readouterr().out
    assert "[bold] of Falcon, to [EMAIL]" in shown
    assert run("guardrails", "test", "acme", "a falcon", "--direction", "output", "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "hits": [{"guard": "terms", "action": "block", "count": 1}],
        "blockedBy": "terms",
        "text": None,
    }
    assert [request.url.path for request in seen] == ["/api/v1/guardrails/acme"] * 2
