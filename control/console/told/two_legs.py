"""Which prompts of an endpoint get a leg of their own, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from control.console.output import print_table

Answer = Mapping[str, Any]
_WHAT = {
    "here": "first token, prompt read with the answer",
    "leg": "prompt read elsewhere",
    "fetch": "first token, prompt fetched",
}


def print_two_legs(out: Console, answer: Answer | None) -> None:
    """From which length on, who says so, and by which times; nothing where prompts are not read apart."""
    if not answer:
        return
    out.print(
        f"  {'two legs:':12}prompts from {answer['minPromptTokens']:,} tokens on, {_why(answer)}",
        markup=False,
    )
    if answer["legs"]:
        rows = [
            [
                _WHAT.get(one["name"], one["name"]),
                f"{one['baseMilliseconds']:g} ms",
                f"{one['perThousandTokensMilliseconds']:g} ms",
                one["times"],
            ]
            for one in answer["legs"]
        ]
        print_table(["TIME TO", "AT LEAST", "PER 1,000 TOKENS", "MEASURED"], rows, out)


def _why(answer: Answer) -> str:
    if not answer["learned"]:
        return "as the endpoint says"
    if not answer["gateways"]:
        return "until something is learned"
    range_ = f", {answer['least']:,} to {answer['most']:,}" if answer["least"] != answer["most"] else ""
    gateways = "a gateway has" if answer["gateways"] == 1 else f"{answer['gateways']} gateways have"
    return f"as {gateways} learned{range_}; {answer['beside']:g} requests beside one where it is answered"
