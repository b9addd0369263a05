"""What finds something in a folded text.

Whether there is a hit at some place depends on a bounded piece of text around it and on nothing else, so that
a text that comes in pieces has the same hits as the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

Find = Callable[[str], Iterator[tuple[int, int]]]
"""The hits of a folded text, from where to where, in any order; they may overlap."""
Held = Callable[[str], int]
"""How many characters at the end of a text may begin a hit that goes on behind it."""


@dataclass(frozen=True)
class Detector:
    """Finds one kind of thing. ``mask`` takes the place of a hit. ``longest``: characters of the longest hit,
    or of its head, which ends before the ``tail``: characters over which a hit goes on for as long as there
    are some. ``around``: how far before and behind a hit it looks. ``signs``: in lower case, one of which is
    in each hit or the text around it."""

    name: str
    mask: str
    find: Find
    longest: int
    signs: tuple[str, ...]
    around: int = 1
    tail: frozenset[str] = frozenset()
    held: Held | None = None

    def open(self, text: str) -> int:
        """How many characters at the end of a text may begin a hit that goes on behind it, at most."""
        return self.most_open if self.held is None else min(self.most_open, self.held(text))

    @property
    def most_open(self) -> int:
        """How many that can be at most."""
        return self.longest + self.around


def held_by(characters: str, longest: int) -> Held:
    """Of hits that are made of these characters."""

    def held(text: str) -> int:
        end = text[-longest:]
        return len(end) - len(end.rstrip(characters))

    return held
