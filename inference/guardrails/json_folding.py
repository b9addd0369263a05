"""JSON as guards look at it: its strings are read as what they mean, and nothing is found across its marks.

So a mask never takes a quote or a brace along, an escape is no hiding place, and a number is an atom, which a
mask replaces by another number. What is no JSON is a text from there on.
"""

from __future__ import annotations

import json
import re

from inference.guardrails.folding import BOUNDARY, Atoms, fold

_MARKS = frozenset("{}[]:,")
_SPACE = frozenset(" \t\r\n")
_SPECIAL = re.compile(r'["\\]')
_LITERALS = frozenset({"true", "false", "null"})
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\Z")
_LONGEST_TOKEN = 128
_HIGH, _LOW = range(0xD800, 0xDC00), range(0xDC00, 0xE000)


class Number(str):
    """The atom of a number."""

    __slots__ = ()


class JsonFolder:
    """Folds a JSON text that comes in pieces."""

    def __init__(self) -> None:
        self.is_text = False
        """It was no JSON."""
        self._in_string = False
        self._escape = ""
        self._token = ""
        self._unseen = ""
        self._folded: list[str] = []
        self._atoms: list[str] = []

    def feed(self, text: str) -> tuple[str, Atoms]:
        """The next folded characters and their atoms."""
        at = 0
        while at < len(text):
            if self.is_text or (self._in_string and not self._escape):
                end = len(text) if self.is_text else _run_end(text, at)
                if end > at:
                    self._text(text[at:end])
                    at = end
                    continue
            if self._in_string:
                self._string(text[at])
            else:
                self._between(text[at])
            at += 1
        return self._taken()

    def finish(self) -> tuple[str, Atoms]:
        """What was held back."""
        if self._token:
            self._end_token()
        self._add(self._unseen + self._escape, BOUNDARY)
        self._escape = self._unseen = ""
        return self._taken()

    def _taken(self) -> tuple[str, Atoms]:
        taken = "".join(self._folded), self._atoms
        self._folded, self._atoms = [], []
        return taken

    def _add(self, atom: str, to: str) -> None:
        if atom:
            self._folded.append(to)
            self._atoms.append(atom)
            self._atoms.extend([""] * (len(to) - 1))

    def _text(self, text: str) -> None:
        known, atoms, self._unseen = fold(text, self._unseen)
        self._folded.append(known)
        self._atoms.extend(atoms)

    def _between(self, character: str) -> None:
        """Outside of strings."""
        if character == '"' or character in _MARKS or character in _SPACE:
            if self._token:
                self._end_token()
            if self.is_text:
                self._text(character)
            else:
                self._in_string = character == '"'
                self._add(character, character if character in _SPACE else BOUNDARY)
            return
        self._token += character
        if len(self._token) > _LONGEST_TOKEN:
            self._end_token()

    def _end_token(self) -> None:
        token, self._token = self._token, ""
        if token in _LITERALS:
            for character in token:
                self._add(character, BOUNDARY)
        elif _NUMBER.match(token):
            self._add(Number(token), token)
        else:
            self.is_text = True
            self._text(token)

    def _string(self, character: str) -> None:
        """Within a string."""
        if self._escape:
            self._escape += character
            if self._is_whole():
                self._end_escape()
        elif character == "\\":
            self._escape = character
        elif character == '"':
            self._in_string = False
            self._add(self._unseen, BOUNDARY)
            self._unseen = ""
            self._add(character, BOUNDARY)
        else:
            self._text(character)

    def _is_whole(self) -> bool:
        """Whether the escape is: of a character beyond 16 bits both halves."""
        escape = self._escape
        if escape[1:2] != "u":
            return True
        if len(escape) == 6:
            return _code(escape[2:]) not in _HIGH
        if len(escape) in (7, 8):
            return escape[6:] not in ("\\", "\\u")
        return len(escape) == 12

    def _end_escape(self) -> None:
        escape, self._escape = self._escape, ""
        if escape[1:2] == "u" and 6 < len(escape) < 12:  # half a character, and what is no other half
            escape, rest = escape[:6], escape[6:]
        else:
            rest = ""
        try:
            means = json.loads(f'"{escape}"')
        except ValueError:
            self._add(escape, BOUNDARY)
        else:
            known, _, unseen = fold(means)
            if unseen or not known:
                self._unseen += escape
            else:
                self._add(self._unseen + escape, known)
                self._unseen = ""
        for character in rest:
            self._string(character)


def _run_end(text: str, at: int) -> int:
    """Where the characters of a string that stand for themselves end."""
    found = _SPECIAL.search(text, at)
    return found.start() if found is not None else len(text)


def _code(digits: str) -> int:
    try:
        return int(digits, 16)
    except ValueError:
        return -1
