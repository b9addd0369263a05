"""What a client has been given of an answer, as far as another engine needs it to go on.

Engines tell the ids of the tokens with their text; kept are the events as they came, and of long answers only
the ids and the end of the text. So nothing is parsed of a stream that does not break and is not long.

The text may be behind the tokens: half a character waits for its other half, and what may begin a stop string
is held back. So a place to go on from is the end of an event that gave text for one token: then all tokens
are known to make up the text until there and what is held back. Of several the last may be half a character.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from inference.core.continuable import Continuable

FOLD_BYTES = 48 * 1024
"""So much of events is kept as it came."""
_PROMPT_IDS = re.compile(rb'"prompt_token_ids":\[([\d,]*)\]')
_PLAIN = re.compile(
    rb'"(?:content|text)":"((?:[^"\\]|\\.)*)"\}?,"logprobs":null,"finish_reason":null,'
    rb'(?:"stop_reason":null,"prompt_token_ids":(?:null|\[[\d,]*\]),)?"token_ids":\[(\d[\d,]*)\]\}\]'
)
"""The only choice of a usual event: its text and its tokens."""

Hold = Callable[[int], bool]
"""Asks for room for so many more bytes; False when there is none."""
GiveBack = Callable[[int], None]
"""Is told how much of that room is free again."""


@dataclass(frozen=True)
class BreakPoint:
    """Where another engine goes on. ``prompt`` are the ids of the prompt, as JSON without brackets;
    ``tokens`` those of the answer before this place. ``given`` is what the client has of the text behind it,
    which will come again; ``counted`` are the tokens of all that it has.

    ``id``, ``created``: what events of the answer say. ``whole``: it has its end, only its usage is missing.
    """

    prompt: bytes
    tokens: tuple[int, ...]
    given: str
    prompt_tokens: int
    counted: int
    id: str
    created: int
    whole: bool = False


class Delivered:
    """The record of one answer. It is lost, and tells no place to go on from, when it has no room."""

    def __init__(self, rule: Continuable, limit_bytes: int, hold: Hold, give_back: GiveBack) -> None:
        self.lost = False
        self._rule = rule
        self._left_bytes = limit_bytes
        self._hold = hold
        self._give_back = give_back
        self._room = 0
        self._clear()

    def _clear(self) -> None:
        self._fresh: list[bytes] = []
        self._fresh_bytes = 0
        self._prompt: bytes | None = None
        self._tokens = array("I")
        self._end = ""
        """The end of the text that was given, from the first of the marks on."""
        self._marks = [(0, 0)]
        """Places to go on from: tokens before it, and how far its text goes in ``_end``; what was held back
        goes beyond."""
        self._whole = False
        self._counted = (0, 0)
        self._made_again = 0
        """Tokens counted before another engine went on, of which it makes some again."""
        self._template = ("", 0)

    def add(self, event: bytes) -> None:
        """An event of the engine, as it came, that the client is given."""
        if self.lost:
            return
        self._fresh.append(event)
        self._fresh_bytes += len(event)
        if self._fresh_bytes > FOLD_BYTES or self._prompt is None:
            self._fold()

    def start_over(self) -> None:
        """Nothing was given."""
        self._clear()

    def break_point(self) -> BreakPoint | None:
        """Where to go on; None where that cannot be said, because the engine did not tell all tokens."""
        self._fold()
        prompt_tokens, counted = self._counted
        if self.lost or self._prompt is None or max(len(self._tokens), self._made_again) != counted:
            return None
        if self._prompt.count(b",") + 1 != prompt_tokens:
            return None
        tokens, at = self._mark()
        id_, created = self._template
        return BreakPoint(
            self._prompt,
            tuple(self._tokens[:tokens]),
            self._end[at:],
            prompt_tokens,
            counted,
            id_,
            created,
            self._whole,
        )

    def go_on(self, point: BreakPoint) -> None:
        """What comes next follows on that place; what the client has of the text behind it stays."""
        del self._tokens[len(point.tokens) :]
        self._made_again = point.counted
        self._marks = [mark for mark in self._marks if mark[0] <= len(point.tokens)]

    def _mark(self) -> tuple[int, int]:
        """The last place whose text the client has, and behind which no stop string may end that begins
        before it: so much text of the tokens is known already."""
        known = len(self._end) + self._rule.held_characters - self._rule.stop_characters
        fitting = [mark for mark in self._marks if mark[1] <= known or not mark[0]]
        return fitting[-1]

    def _fold(self) -> None:
        """Keep of the fresh events only what is needed."""
        if self.lost or not self._fresh:
            return
        try:
            self._read_all()
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
            self._lose()
            return
        self._fresh, self._fresh_bytes = [], 0
        self._drop_marks()
        self._take_room()

    def _read_all(self) -> None:
        if self._prompt is None:
            self._read_prompt()
        last = self._fresh[-1]
        found = _PLAIN.findall(b"".join(self._fresh))
        if len(found) == len(self._fresh) and last.startswith(b"data: {"):
            texts = json.loads(b'["' + b'","'.join([text for text, _ in found]) + b'"]')
            self._note_all(texts, [ids for _, ids in found])
            self._read(last, noted=True)
        else:
            for event in self._fresh:
                self._read(event)

    def _read_prompt(self) -> None:
        """Its ids stand in the first event, and are cut out: they may be many."""
        for position, event in enumerate(self._fresh):
            found = _PROMPT_IDS.search(event)
            if found is not None:
                self._prompt = found[1]
                self._fresh[position] = event[: found.start(1)] + event[found.end(1) :]
                return
        raise ValueError("an engine that does not tell the tokens of the prompt")

    def _read(self, event: bytes, noted: bool = False) -> None:
        content = json.loads(event.removeprefix(b"data:"))
        self._template = str(content["id"]), int(content["created"])
        usage = content["usage"]
        self._counted = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
        if noted:
            return
        for choice in content["choices"]:
            self._read_choice(choice)

    def _read_choice(self, choice: dict[str, Any]) -> None:
        said = dict(choice["delta"]) if "delta" in choice else {"content": choice["text"]}
        said.pop("role", None)
        text = said.pop("content", None) or ""
        if any(said.values()):
            raise ValueError("an answer that is more than text")
        self._note(text, choice.get("token_ids") or [])
        self._whole = self._whole or choice.get("finish_reason") is not None

    def _note(self, text: str, ids: list[int]) -> None:
        self._tokens.extend(ids)
        self._end += text
        if text and len(ids) == 1:
            self._marks.append((len(self._tokens), len(self._end) + self._rule.held_characters))

    def _note_all(self, texts: list[str], ids: list[bytes]) -> None:
        """As ``_note`` for each. Without stop strings only the last place counts."""
        if self._rule.stop_characters:
            for text, told in zip(texts, ids, strict=True):
                self._note(text, json.loads(b"[%b]" % told))
            return
        at = len(texts)
        while at and not (texts[at - 1] and b"," not in ids[at - 1]):
            at -= 1
        self._tokens.extend(json.loads(b"[%b]" % b",".join(ids[:at])))
        if at:
            self._end, self._marks = "", [(len(self._tokens), 0)]
        self._tokens.extend(json.loads(b"[%b]" % b",".join(ids[at:])))
        self._end += "".join(texts[at:])

    def _drop_marks(self) -> None:
        """Forget the places before the last to go on from, and the text before it."""
        mark = self._mark()
        gone = min(mark[1], len(self._end))
        self._end = self._end[gone:]
        at = self._marks.index(mark)
        self._marks = [(tokens, characters - gone) for tokens, characters in self._marks[at:]]

    def _take_room(self) -> None:
        needed = len(self._prompt or b"") + 4 * (len(self._tokens) + len(self._end)) + FOLD_BYTES
        if needed <= self._room:
            return
        more = needed - self._room + FOLD_BYTES
        if more > self._left_bytes or not self._hold(more):
            self._lose()
            return
        self._left_bytes -= more
        self._room += more

    def _lose(self) -> None:
        self.lost = True
        self._clear()
        self._give_back(self._room)
        self._room = 0
