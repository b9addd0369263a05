"""What is looked for, and what is done about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ahocorasick_rs import AhoCorasick

from inference.guardrails.detecting import Detector

Action = Literal["flag", "mask", "block"]
_BLOCK = 4096
_MOST_STEP = 48
_PLAIN = re.compile(r"[^\"\\\x00-\x1f\x7f]+")
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
        self.changes = any(one.action != "flag" for one in rules)
        """Whether a text may come out otherwise than it came in."""
        self.around = max((one.detector.around for one in rules), default=0)
        by_sign: dict[str, set[int]] = {}
        for number, rule in enumerate(self.rules):
            for sign in rule.detector.signs:
                by_sign.setdefault(sign, set()).add(number)
        self._signs = AhoCorasick(list(by_sign))
        self._of_sign = list(by_sign.values())
        self._has_odd_signs = any(not _PLAIN.fullmatch(sign) for sign in by_sign)
        self._longest_sign = max(map(len, by_sign))
        detectors = [one.detector for one in self.rules]
        self._always_open = max((one.most_open for one in detectors if one.held is None), default=0)
        self.step = min(_MOST_STEP, self._always_open // 4)
        """So much of a text may wait to be looked at together."""
        self._often_open = [
            one
            for one in dict.fromkeys(detectors)
            if one.held is not None and one.most_open > self._always_open
        ]

    def spans(self, text: str, start: int, end: int) -> list[Span]:
        """The hits that begin there, by place; of those that begin together the most severe and longest
        first."""
        told = self._told(text)
        if not told:
            return []
        found = list(
            dict.fromkeys(
                Span(first, last, self.rules[number])
                for number in sorted(told)
                for first, last in self.rules[number].detector.find(text)
                if start <= first < end
            )
        )
        if len(found) > 1:
            found.sort(key=lambda one: (one.start, -SEVERITY[one.rule.action], -one.end))
        return found

    def open(self, text: str) -> int:
        """How many characters at the end of a text may begin a hit that goes on behind it."""
        most = self._always_open
        for detector in self._often_open:
            most = max(most, detector.open(text))
        return most

    def may_hit(self, text: str) -> bool:
        """Whether anything may be found in a folded text, or in one in which only quotes, backslashes and
        what nobody sees are written otherwise."""
        return self._has_odd_signs or bool(self._told(text))

    def _told(self, text: str) -> set[int]:
        """The rules of which there are signs: all others find nothing."""
        low, told = text.lower(), set[int]()
        for begin in range(0, len(low), _BLOCK):
            piece = low[begin : begin + _BLOCK + self._longest_sign - 1] if len(low) > _BLOCK else low
            for sign, _, _ in self._signs.find_matches_as_indexes(piece, overlapping=True):
                told |= self._of_sign[sign]
            if len(told) == len(self.rules):
                break
        return told
