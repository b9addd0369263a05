"""What is looked for, and what is done about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from inference.guardrails.detecting import Detector

Action = Literal["flag", "mask", "block"]
SEVERITY: dict[Action, int] = {"flag": 0, "mask": 1, "block": 2}


@dataclass(frozen=True)
class Rule:
    """A detector and what is done about its hits. ``guardrail``: whose rule it is; ``guard``: the name that
    people are told."""

    guardrail: str
    guard: str
    action: Action
    detector: Detector


class Span(NamedTuple):
    """A hit of a rule. With a tail it goes on behind its end."""

    start: int
    end: int
    rule: Rule


class Rules:
    """Rules that bind a text together."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.around = max((one.detector.around for one in rules), default=0)
        self.most_held = max((one.detector.longest + one.detector.around for one in rules), default=0)
        self.changes = any(one.action != "flag" for one in rules)
        """Whether a text may come out otherwise than it came in."""

    def spans(self, text: str, start: int, end: int) -> list[Span]:
        """The hits that begin there, by place; of those that begin together the most severe and longest
        first."""
        found = list(
            dict.fromkeys(
                Span(first, last, rule)
                for rule in self.rules
                for first, last in rule.detector.find(text)
                if start <= first < end
            )
        )
        if len(found) > 1:
            found.sort(key=lambda one: (one.start, -SEVERITY[one.rule.action], -one.end))
        return found

    def open(self, text: str) -> int:
        """How many characters at the end of a text may begin a hit that goes on behind it."""
        return max((one.detector.open(text) for one in self.rules), default=0)
