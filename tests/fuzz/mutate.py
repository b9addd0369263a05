"""Changes to an input that keep its form in part: what random bytes alone would take years to find.

JSON on a line of its own, also behind ``data:``, is changed as a value; all else as bytes. Short pieces are
repeated up to the longest input, which shows whatever takes more time than its input is long.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.fuzz.target import MAX_INPUT_BYTES

_ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 255, 2**31, 2**53 + 1, 2**63, 10**15, 10**299, 10**400),
    *(0.0, -0.0, 0.5, 1e-9, 1e308, float("inf"), float("nan")),
    *(
        "",
        " ",
        "0",
        "NaN",
        "null",
        "\x00",
        "\n",
        "\r",
        "\x1b[2J",
        "\u202e",
        "é",
        "漢",
        "\U0001f600",
        "\ud800",
    ),
    *("a" * 64, "a" * 300, "ß" * 5000, "../../etc/passwd", "data: [DONE]\n\n", '"usage":{}'),
    *([], {}, [None], [[]], {"": None}, {"a": {}}, {"$ref": "#"}),
)
_ODD_BYTES = (
    *(
        b"\x00",
        b"\xff",
        b"\xfe\xff",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\r",
        b"\n",
        b"\n\n",
        b"\\",
        b'"',
        b"'",
    ),
    *(b"[", b"{", b"]", b"}", b",", b":", b"-", b"1", b"/", b"|", b" ", b"\t", b"a", b"\\u0000", b"\\ud800"),
    *(
        b"1e999",
        b"NaN",
        b"&a ",
        b"*a",
        b"<<: ",
        b"!!timestamp ",
        b"!!int ",
        b"!!float ",
        b"!!bool ",
        b"!!set ",
    ),
)
_LONG = 0.03
"""The part of the repetitions that fill the input; more of them would leave little time for all else."""
_PREFIXES = (b"data: ", b"data:")


def mutated(data: bytes, chance: Random, words: Sequence[str] = ()) -> bytes:
    """The data after one to four changes, at most as long as an input may be."""
    for _ in range(chance.randint(1, 4)):
        data = (_line_changed(data, chance, words) if chance.random() < 0.5 else None) or _bytes_changed(
            data, chance, words
        )
    return data[:MAX_INPUT_BYTES]


def _line_changed(data: bytes, chance: Random, words: Sequence[str]) -> bytes | None:
    """With the value of one of its lines changed; None where a line that is drawn is no JSON."""
    lines = data.split(b"\n")
    place = chance.randrange(len(lines))
    prefix = next((p for p in _PREFIXES if lines[place].startswith(p)), b"")
    try:
        value = json.loads(lines[place].removeprefix(prefix))
        changed = json.dumps(_value_changed(value, chance, words), ensure_ascii=chance.random() < 0.5)
    except (ValueError, RecursionError):
        return None
    lines[place] = prefix + changed.encode(errors="surrogatepass")
    return b"\n".join(lines)


def _value_changed(value: Any, chance: Random, words: Sequence[str]) -> Any:
    """With one value in it changed."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        change = chance.random()
        if change < 0.1:
            return {name: part for name, part in value.items() if name != key}
        if change < 0.25:
            name = chance.choice(words) if words and chance.random() < 0.8 else str(_odd_value(chance, words))
            return {**value, name: chance.choice([value[key], _odd_value(chance, words)])}
        return {**value, key: _value_changed(value[key], chance, words)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        change = chance.random()
        if change < 0.1:
            return value[:place] + value[place + 1 :]
        if change < 0.2:
            return value * chance.randint(2, 8)
        return [*value[:place], _value_changed(value[place], chance, words), *value[place + 1 :]]
    if chance.random() < 0.2:
        return [value] if chance.random() < 0.5 else {"value": value}
    return _odd_value(chance, words)


def _odd_value(chance: Random, words: Sequence[str]) -> Any:
    if words and chance.random() < 0.3:
        return chance.choice(words)
    if chance.random() < 0.05:
        value: Any = None
        for _ in range(chance.choice((30, 70, 300))):
            value = [value] if chance.random() < 0.5 else {"a": value}
        return value
    return chance.choice(_ODD_VALUES)


def _bytes_changed(data: bytes, chance: Random, words: Sequence[str]) -> bytes:
    change: Callable[[bytes, Random], bytes] = chance.choice(
        (_piece_repeated, _piece_dropped, _byte_changed, _piece_moved, _odd_inserted, _odd_inserted)
    )
    if words and chance.random() < 0.15:
        at = chance.randint(0, len(data))
        return data[:at] + chance.choice(words).encode(errors="surrogatepass") + data[at:]
    return change(data, chance)


def _piece(data: bytes, chance: Random) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + chance.choice((1, 2, 3, 5, 8, 13, 40, 200)))


def _piece_repeated(data: bytes, chance: Random) -> bytes:
    start, end = _piece(data, chance)
    times = chance.choice((2, 3, 4, 8, 20, 100))
    if chance.random() < _LONG:
        times = MAX_INPUT_BYTES
    room = max(0, MAX_INPUT_BYTES - len(data))
    return data[:start] + (data[start:end] * min(times, 1 + room // max(1, end - start))) + data[end:]


def _piece_dropped(data: bytes, chance: Random) -> bytes:
    start, end = _piece(data, chance)
    return data[:start] + data[end:] if chance.random() < 0.8 else data[:start]


def _piece_moved(data: bytes, chance: Random) -> bytes:
    start, end = _piece(data, chance)
    at = chance.randint(0, len(data))
    return data[:at] + data[start:end] + data[at:]


def _byte_changed(data: bytes, chance: Random) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]


def _odd_inserted(data: bytes, chance: Random) -> bytes:
    start, end = _piece(data, chance)
    kept = start if chance.random() < 0.5 else end
    return data[:start] + chance.choice(_ODD_BYTES) + data[kept:]
