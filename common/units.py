"""Integers with units: credits, tokens, bytes, seconds."""

from __future__ import annotations

import re

MICROCREDITS_PER_CREDIT = 1_000_000
MIB = 1024**2
GIB = 1024**3

_SUFFIXES = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_FIXED = re.compile(r"(-?)(\d{1,15})(?:\.(\d{1,12}))?", re.ASCII)
_QUANTITY = re.compile(r"(\d{1,18})(k|M|G|T|Ki|Mi|Gi|Ti)?", re.ASCII)


def parse_bytes(text: str | int) -> int:
    """``"80Gi"`` → bytes, with the suffixes of Kubernetes quantities; ``ValueError`` on anything else."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is not a byte quantity; write e.g. 512Mi or 80Gi")
    return int(match[1]) * _SUFFIXES[match[2] or ""]


def format_bytes(count: int) -> str:
    """Bytes for people: ``85899345920`` → ``80.0 GiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def format_credits(microcredits: int) -> str:
    """Micro-credits as credits with all six places: ``1234567`` → ``1.234567``."""
    sign = "-" if microcredits < 0 else ""
    whole, rest = divmod(abs(microcredits), MICROCREDITS_PER_CREDIT)
    return f"{sign}{whole}.{rest:06d}"


def parse_fixed(text: str, places: int) -> int:
    """A decimal number in units of its last place, exactly: ``1.5`` with 6 places → 1500000. ``ValueError``
    for what is none, or has more places than that."""
    match = _FIXED.fullmatch(text.strip())
    if match is None or len(match[3] or "") > places:
        raise ValueError(f"{text[:40]!r} is no number with at most {places} places")
    amount = int(match[2] + (match[3] or "").ljust(places, "0"))
    return -amount if match[1] else amount
