"""Texts as guards look at them: characters that look alike are one, and those that nobody sees are none.

A folded text goes with its atoms: for each of its characters the piece of the text that it stands for, so
that what is found can be cut out of the text. Where one character becomes several, all but the first have an
empty atom. What nobody sees belongs to the character behind it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache

Atoms = Sequence[str]
"""Of a text in which each character stands for itself, it is that text."""
BOUNDARY = "\0"
"""Stands in a folded text for what no hit goes across."""
MAX_UNSEEN = 64
"""So many characters that nobody sees are kept in a row; more are dropped where a text is passed on."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MARKS = ((0x300, 0x36F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE20, 0xFE2F))
_UNSEEN = ((0x34F, 0x34F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x3164, 0x3164),
           (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0000, 0xE01EF))  # fmt: skip
_LOOKED_AT = ((0x80, 0x33FF), (0xA000, 0xABFF), (0xF900, 0x1FFFF), (0x2F800, 0x2FA1F), (0xE0000, 0xE01EF))
"""All but most ideographs, syllables of Hangul, and private characters, which stand for themselves."""
_LOOK_ALIKE = str.maketrans(
    "аеорсухіјѕԁԛԝвкмнтАВЕКМНОРСТУХІЈЅαορνικυΑΒΕΖΗΙΚΜΝΟΡΤΥΧıℓ",
    "aeopcyxijsdqwbkmhtABEKMHOPCTYXIJSaopvikuABEZHIKMNOPTYXil",
)
"""Cyrillic and Greek letters that are taken for Latin ones."""


@cache
def table() -> Mapping[int, str]:
    """Code point -> what it is folded to, of all that do not stand for themselves."""
    folded = {code: "" for code in range(0x20) if chr(code) not in "\t\n\r"} | {0x7F: ""}
    for first, last in _LOOKED_AT:
        for code in range(first, last + 1):
            found = _folded(chr(code))
            if found != chr(code):
                folded[code] = found
    return folded


def _within(code: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return any(first <= code <= last for first, last in ranges)


def _folded(character: str) -> str:
    code, category = ord(character), unicodedata.category(character)
    if category in ("Cn", "Cs", "Co") and not _within(code, _UNSEEN):
        return character
    if category in ("Cf", "Cc") or _within(code, _UNSEEN) or _within(code, _MARKS):
        return ""
    if category in ("Zs", "Zl", "Zp"):
        return " "
    if category == "Pd" or code == 0x2212:
        return "-"
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    apart = unicodedata.normalize("NFKD", character)
    plain = "".join(one for one in apart if not _within(ord(one), (*_MARKS, *_UNSEEN)))
    return unicodedata.normalize("NFC", plain).translate(_LOOK_ALIKE)


@cache
def _changes_length() -> re.Pattern[str]:
    """Finds what is folded to none or to several characters."""
    found = "".join(re.escape(chr(code)) for code, to in table().items() if len(to) != 1)
    return re.compile(f"[{found}]")


def is_ready() -> bool:
    """Whether the tables are made, which takes some tenths of a second."""
    return bool(_changes_length.cache_info().currsize)


def make_ready() -> None:
    """Make the tables."""
    _changes_length()


def fold(text: str, unseen: str = "") -> tuple[str, Atoms, str]:
    """The folded text, its atoms, and what nobody sees at its end. ``unseen``: that of the text before."""
    if not unseen:
        if text.isascii() and _CONTROL.search(text) is None:
            return text, text, ""
        if _changes_length().search(text) is None:
            return text.translate(table()), text, ""
    folded: list[str] = []
    atoms: list[str] = []
    known = table()
    for character in text:
        to = known.get(ord(character), character)
        if not to:
            unseen = (unseen + character)[:MAX_UNSEEN]
            continue
        folded.append(to)
        atoms.append(unseen + character)
        atoms.extend([""] * (len(to) - 1))
        unseen = ""
    return "".join(folded), atoms, unseen


def folded(text: str) -> str:
    """The folded text alone."""
    return fold(text)[0]
