"""JSON without spaces, written by an encoder that is made once: ``json.dumps`` makes one for each value."""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder
from typing import Any

_plain = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_make: Callable[..., Callable[[Any, int], tuple[str, ...]]] | None = getattr(encoder, "c_make_encoder", None)
_chunks = _make and _make(
    None, _plain.default, encoder.encode_basestring_ascii, None, ":", ",", False, False, True
)


def compact(value: Any) -> str:
    """The JSON of a value that holds nothing within itself, in ASCII. Raises ``TypeError`` for what JSON does
    not have, ``RecursionError`` for what is nested too deeply."""
    return "".join(_chunks(value, 0)) if _chunks is not None else _plain.encode(value)
