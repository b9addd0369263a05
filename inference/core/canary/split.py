"""Which side of an Endpoint has a request: its stable engines, or those of its canary."""

from __future__ import annotations

import hashlib
from typing import Literal

Side = Literal["stable", "canary"]
SIDES: tuple[Side, Side] = ("stable", "canary")
_WHOLE = 2**64


def side_of(secret: bytes, salt: str, unit: str, weight_percent: float) -> Side:
    """The side of a ``unit``, which is what stays together: a key, a session or one request.

    Each unit has a place of its own between 0 and 100, another one for each ``salt``, which nobody can
    foretell without the secret; the canary has those below its weight. So a unit stays where it is while the
    weight does, and as the weight grows units go to the canary only.
    """
    word = f"{salt}\0{unit}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(word, digest_size=8, key=hashlib.sha256(secret).digest()).digest()
    place = int.from_bytes(digest) / _WHOLE * 100
    return "canary" if place < weight_percent else "stable"
