"""One text under rules, whole or in pieces: what may be passed on of it, with masks in place of hits.

Of a text that comes in pieces so much is held back as may be the beginning of a hit. What is passed on, and
what is found, is the same however the text was cut, and nothing of a hit is passed on before it was found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from inference.guardrails.folding import fold
from inference.guardrails.json_folding import JsonFolder, Number
from inference.guardrails.rules import Rule, Rules, Span

_MASKED_NUMBER = "0"
_OPENS_JSON = frozenset("{[")
_SPACE = " \t\r\n"


class _PlainFolder:
    """Folds a text that comes in pieces."""

    def __init__(self) -> None:
        self._unseen = ""

    def feed(self, text: str) -> tuple[str, Sequence[str]]:
        folded, atoms, self._unseen = fold(text, self._unseen)
        return folded, atoms

    def finish(self) -> tuple[str, Sequence[str]]:
        unseen, self._unseen = self._unseen, ""
        return ("\0", [unseen]) if unseen else ("", "")


class GuardedText:
    """One text. ``hits``: how often each rule found something. ``blocked``: the first rule that ends it; then
    nothing more is passed on. ``is_json``: what is in it is JSON where it is; without, where it begins so."""

    def __init__(self, rules: Rules, is_json: bool = False) -> None:
        self.hits: Counter[Rule] = Counter()
        self.blocked: Rule | None = None
        self.changed = False
        self._rules = rules
        self._folder: JsonFolder | _PlainFolder | None = JsonFolder() if is_json else None
        self._waiting = ""
        """Came in, and is not looked at yet."""
        self._text = ""
        self._atoms: list[str] | str = ""
        self._at = 0
        """What comes before it has been passed on, and is kept to look back at."""
        self._hidden = 0
        """So far goes the mask that was put last."""
        self._tails: list[frozenset[str]] = []
        """The mask goes on over these characters."""

    def feed(self, text: str) -> str:
        """What can be passed on now that ``text`` has come."""
        if self.blocked is not None:
            return ""
        if self._folder is None:
            begin = text.lstrip(_SPACE)
            if not begin:
                return text
            self._folder = JsonFolder() if begin[0] in _OPENS_JSON else _PlainFolder()
        self._waiting += text
        if len(self._waiting) <= self._rules.step:
            return ""
        self._take_waiting()
        return self._passed(max(self._at, len(self._text) - self._rules.open(self._text)))

    def finish(self) -> str:
        """What is left, now that nothing more comes."""
        if self.blocked is not None or self._folder is None:
            return ""
        self._take_waiting()
        self._take(*self._folder.finish())
        return self._passed(len(self._text))

    def whole(self, text: str) -> str:
        """All of a text that has come at once."""
        if self._folder is None:
            begin = text.lstrip(_SPACE)
            self._folder = JsonFolder() if begin and begin[0] in _OPENS_JSON else _PlainFolder()
        self._waiting = text
        return self.finish()

    def _take_waiting(self) -> None:
        assert self._folder is not None
        text, self._waiting = self._waiting, ""
        self._take(*self._folder.feed(text))

    def _take(self, folded: str, atoms: Sequence[str]) -> None:
        if not folded:
            return
        if not self._text:
            self._text, self._atoms = folded, atoms if isinstance(atoms, str) else list(atoms)
            return
        self._text += folded
        if isinstance(self._atoms, str) and isinstance(atoms, str):
            self._atoms += atoms
        else:
            self._atoms = [*self._atoms, *atoms]

    def _passed(self, until: int) -> str:
        """What there is to pass on until this place."""
        while until > self._at and until < len(self._text) and not self._atoms[until]:
            until -= 1
        passed: list[str] = []
        for span in self._rules.spans(self._text, self._at, until):
            self.hits[span.rule] += 1
            if span.rule.action == "flag":
                continue
            start, end = self._of_atoms(span)
            self._go_on(start)
            if start >= self._hidden:
                passed.append("".join(self._atoms[max(self._at, self._hidden) : start]))
                self._at = start
                if span.rule.action == "block":
                    self.blocked = span.rule
                    return "".join(passed)
                passed.append(self._mask(start, span.rule))
                self.changed = True
            elif span.rule.action == "block":
                self.blocked = span.rule
                return "".join(passed)
            self._hide(end)
            if span.rule.detector.tail:
                self._tails.append(span.rule.detector.tail)
        self._go_on(until)
        passed.append("".join(self._atoms[max(self._at, min(self._hidden, until)) : until]))
        self._forget(until)
        return "".join(passed)

    def _of_atoms(self, span: Span) -> tuple[int, int]:
        """Where the atoms of a hit begin and end: it takes along all of what one character was folded to."""
        start, end = span.start, span.end
        while start and not self._atoms[start]:
            start -= 1
        while end < len(self._atoms) and not self._atoms[end]:
            end += 1
        return start, end

    def _hide(self, end: int) -> None:
        """Let the mask go to this place at least; a tail goes on only where it goes all the way."""
        if end > self._hidden:
            skipped = self._text[self._hidden : end]
            self._tails = [tail for tail in self._tails if tail.issuperset(skipped)]
            self._hidden = end

    def _go_on(self, until: int) -> None:
        """Let the mask go on over the tail of what it hides, to this place at most."""
        while self._tails and self._hidden < until:
            character = self._text[self._hidden]
            self._tails = [tail for tail in self._tails if character in tail]
            if self._tails:
                self._hidden += 1

    def _mask(self, start: int, rule: Rule) -> str:
        return _MASKED_NUMBER if isinstance(self._atoms[start], Number) else rule.detector.mask

    def _forget(self, until: int) -> None:
        """Keep of what was passed on only what is looked back at."""
        gone = max(0, until - self._rules.around)
        self._at = until - gone
        self._hidden = max(0, self._hidden - gone)
        self._text, self._atoms = self._text[gone:], self._atoms[gone:]
