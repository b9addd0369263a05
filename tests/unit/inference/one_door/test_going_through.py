"""Candidates of a Route, one after the other, through a whole gateway."""

from pathlib import Path

import pytest

from tests.fixtures.doors import door, doors, own
from tests.unit.inference.gateway.front_scene import ASK, front_scene

SMART = {**ASK, "model": "smart"}
REFUSAL = {"error": {"message": "no such thing", "code": 400}}


async def test_an_answer_that_is_billed_is_given_where_the_next_candidate_refuses_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with front_scene(tmp_path, monkeypatch, engines=2) as front:
        one, two = front.engines
        two.fail_with = 400, REFUSAL
        cascade = door("smart", "small", "large", checks=("truncation",))
        front.tell(doors(own("small", one.url), own("large", two.url), cascade))
        answer = await front.ask({**SMART, "max_tokens": 2})
        assert (answer.status, answer.json["choices"][0]["finish_reason"]) == (200, "length")
        assert answer.headers["x-computility-route"].startswith("route=smart; model=small")
        assert [event["model"] for event in front.spooled()] == ["small"]
        one.fail_with = 400, REFUSAL
        assert (await front.ask(SMART)).status == 400


async def test_signs_of_life_keep_no_other_candidate_from_answering_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with front_scene(tmp_path, monkeypatch, engines=2) as front:
        one, two = front.engines
        one.script = [b": keep-alive\n\n"] * 3 + [None]
        timed = door("smart", "small", "large", deadline_ms=60_000)
        front.tell(doors(own("small", one.url), own("large", two.url), timed))
        answer = await front.ask({**SMART, "max_tokens": 2, "stream": True})
        assert (answer.status, answer.events[-1]) == (200, "[DONE]")
        assert answer.headers["x-computility-route"] == "route=smart; model=large; tried=small:error"
        assert [event["model"] for event in front.spooled()] == ["large"]
