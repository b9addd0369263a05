"""Lists of terms, found all at once in time linear in the text, however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ahocorasick_rs import AhoCorasick

from common.errors import InvalidInput
from inference.guardrails.detecting import Detector
from inference.guardrails.folding import folded

MAX_TERMS = 5000
MAX_TERM_CHARACTERS = 128
MAX_TERMS_BYTES = 64 * 1024
MAX_ENDING_ALIKE = 8
"""So many terms may be the end of another one: so many hits there can be at one place."""
_BLOCK = 4096
_SPACED_BEFORE = 0x2E80
"""Scripts from here on put no spaces between words."""


class Terms:
    """Finds the terms of a list. ``whole_words``: not within longer words, of scripts that have such."""

    def __init__(self, terms: Sequence[str], whole_words: bool = True) -> None:
        self.terms = folded_terms(terms)
        self._whole_words = whole_words
        self._automaton = AhoCorasick(self.terms)
        self.longest = max(map(len, self.terms))

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """All hits, also those within each other."""
        low = text.lower()
        for begin in range(0, len(low), _BLOCK):
            piece = low[begin : begin + _BLOCK + self.longest - 1] if len(low) > _BLOCK else low
            for _, start, end in self._automaton.find_matches_as_indexes(piece, overlapping=True):
                if start < _BLOCK and not (
                    self._whole_words and _is_within_word(low, begin + start, begin + end)
                ):
                    yield begin + start, begin + end


def folded_terms(terms: Sequence[str]) -> list[str]:
    """The terms as they are looked for. Raises ``InvalidInput`` for a list that is too long, terms without a
    character that is seen, and too many that end alike."""
    if not terms or len(terms) > MAX_TERMS:
        raise InvalidInput(f"terms: at least 1 and at most {MAX_TERMS}, not {len(terms)}", param="terms")
    if sum(len(term.encode("utf-8", "surrogatepass")) for term in terms) > MAX_TERMS_BYTES:
        raise InvalidInput(f"terms: at most {MAX_TERMS_BYTES} bytes together", param="terms")
    known = []
    for position, term in enumerate(terms):
        plain = folded(term).lower().strip()
        if not plain or len(plain) > MAX_TERM_CHARACTERS:
            message = f"terms[{position}] must have 1 to {MAX_TERM_CHARACTERS} characters that are seen"
            raise InvalidInput(message, param=f"terms[{position}]")
        known.append(plain)
    known = sorted(set(known))
    everything = set(known)
    for term in known:
        ends = sum(term[at:] in everything for at in range(1, len(term)))
        if ends > MAX_ENDING_ALIKE:
            message = (
                f"terms: more than {MAX_ENDING_ALIKE} are the end of one other; leave the longer one out"
            )
            raise InvalidInput(message, param="terms")
    return known


def _is_within_word(text: str, start: int, end: int) -> bool:
    before, behind = text[start - 1 : start], text[end : end + 1]
    return _are_one_word(before, text[start]) or _are_one_word(text[end - 1], behind)


def _are_one_word(first: str, second: str) -> bool:
    return (
        first.isalnum() and second.isalnum() and ord(first) < _SPACED_BEFORE and ord(second) < _SPACED_BEFORE
    )


def terms_detector(terms: Sequence[str], whole_words: bool = True) -> Detector:
    found = Terms(terms, whole_words)
    return Detector("terms", "[REMOVED]", found.find, found.longest, tuple(found.terms))
