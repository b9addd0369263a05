"""What gateways have learned of prompts read apart: as control keeps it, and as people are told."""

from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from common.clock import VirtualClock
from common.resources import Endpoint
from common.wire import LearnedThreshold, LegTimes, ThresholdReport
from control.console.told.two_legs import print_two_legs
from inference.two_legs.answers import explain_two_legs
from inference.two_legs.board import MAX_GATEWAYS, STALE_SECONDS, ThresholdBoard

ROLE = {"replicas": 1, "devices": {"vendors": ["nvidia"]}}


def endpoint(**spec: Any) -> Endpoint:
    pair = {"mode": "disaggregated", "prefill": ROLE, "decode": ROLE}
    document = {"metadata": {"name": "chat", "project": "lab"}, "spec": {"model": "tiny", **pair, **spec}}
    return Endpoint.model_validate(document)


def learned(tokens: int, times: int = 10, name: str = "lab/chat") -> LearnedThreshold:
    leg = LegTimes(name="leg", base_ms=20.04, per_thousand_tokens_ms=100, times=times)
    return LearnedThreshold(endpoint=name, min_prompt_tokens=tokens, beside=1.234, legs=(leg,))


def told(answer: Any) -> str:
    console = Console(width=120, record=True, color_system=None)
    print_two_legs(console, answer.to_dict() if answer is not None else None)
    return console.export_text()


def test_what_each_gateway_told_last_counts_for_a_while() -> None:
    clock = VirtualClock()
    board = ThresholdBoard(clock)
    board.report(ThresholdReport(gateway="a", thresholds=(learned(300), learned(9, name="lab/other"))))
    board.report(ThresholdReport(gateway="a", thresholds=(learned(400),)))
    board.report(ThresholdReport(gateway="b", thresholds=(learned(700),)))
    assert [one.min_prompt_tokens for one in board.of("lab/chat")] == [400, 700]
    assert not board.of("lab/other")
    clock.advance(STALE_SECONDS)
    board.report(ThresholdReport(gateway="b", thresholds=(learned(800),)))
    assert len(board.of("lab/chat")) == 2
    clock.advance(1)
    assert [one.min_prompt_tokens for one in board.of("lab/chat")] == [800]


def test_no_more_gateways_are_remembered_than_so_many() -> None:
    board = ThresholdBoard(VirtualClock())
    for number in range(MAX_GATEWAYS + 5):
        board.report(ThresholdReport(gateway=str(number), thresholds=(learned(number),)))
    assert min(one.min_prompt_tokens for one in board.of("lab/chat")) == 5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e30])
def test_no_odd_number_is_taken(value: float) -> None:
    with pytest.raises(ValidationError):
        LegTimes(name="leg", base_ms=value, per_thousand_tokens_ms=1, times=1)
    with pytest.raises(ValidationError):
        LearnedThreshold(endpoint="lab/chat", min_prompt_tokens=1, beside=value)


def test_people_are_told_who_says_it_and_by_which_times() -> None:
    board = ThresholdBoard(VirtualClock())
    assert "from 512 tokens on, until something is learned" in told(explain_two_legs(endpoint(), board))
    board.report(ThresholdReport(gateway="a", thresholds=(learned(400, times=5),)))
    board.report(ThresholdReport(gateway="b", thresholds=(learned(1700, times=50),)))
    text = told(explain_two_legs(endpoint(), board))
    assert (
        "prompts from 400 tokens on, as 2 gateways have learned, 400 to 1,700; 1.23 requests beside" in text
    )
    assert "prompt read elsewhere" in text
    assert ("20 ms" in text, "100 ms" in text, "50" in text) == (True, True, True)
    fixed = explain_two_legs(endpoint(minPromptTokens=64), board)
    assert told(fixed).strip() == "two legs:   prompts from 64 tokens on, as the endpoint says"


def test_nothing_is_said_where_prompts_are_not_read_apart() -> None:
    plain = endpoint(mode="single", prefill=None, decode=None)
    assert explain_two_legs(plain, ThresholdBoard(VirtualClock())) is None
    assert told(None) == ""
