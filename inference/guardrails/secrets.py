"""Secrets: keys and tokens as services make them, private keys, and passwords by their names."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterator

from inference.guardrails.detecting import Detector

_B = r"(?<![A-Za-z0-9])"
_FORMS = (
    r"A(?:KI|SI|BI|CC)A[0-9A-Z]{16}",  # Amazon
    r"AIza[0-9A-Za-z_-]{35}",  # Google
    r"gh[pousr]_[0-9A-Za-z]{36}",  # GitHub
    r"github_pat_[0-9A-Za-z_]{22}",
    r"gl(?:pat|dt|rt)-[0-9A-Za-z_-]{20}",  # GitLab
    r"xox[abeoprs]-[0-9A-Za-z-]{10}",  # Slack
    r"hooks\.slack\.com/services/T[0-9A-Za-z]{8}",
    r"[rs]k_live_[0-9A-Za-z]{16}",  # Stripe
    r"sk-[0-9A-Za-z_-]{20}",  # OpenAI, Anthropic and those that speak their APIs
    r"ck-[0-9A-Za-z_-]{20}",  # this platform
    r"hf_[0-9A-Za-z]{30}",  # Hugging Face
    r"npm_[0-9A-Za-z]{36}",
    r"pypi-AgE[0-9A-Za-z_-]{20}",
    r"SG\.[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{20}",  # SendGrid
    r"SK[0-9a-f]{32}",  # Twilio
    r"LTAI[0-9A-Za-z]{12}",  # Alibaba Cloud
    r"AKID[0-9A-Za-z]{16}",  # Tencent Cloud
    r"dop_v1_[0-9a-f]{32}",  # DigitalOcean
    r"ey[JK][0-9A-Za-z_-]{10,128}\.ey[JK][0-9A-Za-z_-]{6}",  # JSON web token
)
_FORM = re.compile(rf"{_B}(?=((?:{'|'.join(_FORMS)})))")
_LONGEST = 160
_TAIL = frozenset(string.ascii_letters + string.digits + "_-./+=")
_HEADER = re.compile(r"-----BEGIN (?=[A-Z ]{0,32}PRIVATE KEY)")
_HEADER_END = re.compile(r"[A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----")
_KEY_TAIL = frozenset(string.ascii_letters + string.digits + "+/=-:, \r\n\t\\")
_NAMED = re.compile(
    r"(?<![A-Za-z])(?=((?:api[_-]?key|access[_-]?key|secret(?:[_-]?key)?|auth[_-]?token|token|passwo?r?d|passphrase|pwd)"
    r"[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?)([0-9A-Za-z+/_.=!@#$%^&*-]{8,64}))",
    re.IGNORECASE | re.ASCII,
)
_LEAST_BITS = 2.8


def tokens(text: str) -> Iterator[tuple[int, int]]:
    """Keys in the form of a known service."""
    for found in _FORM.finditer(text):
        yield found.span(1)


def private_keys(text: str) -> Iterator[tuple[int, int]]:
    """The header of a private key."""
    for found in _HEADER.finditer(text):
        end = _HEADER_END.match(text, found.end())
        if end is not None:
            yield found.start(), end.end()


def passwords(text: str) -> Iterator[tuple[int, int]]:
    """What is said to be a password or key, and looks as if nobody had made it up."""
    for found in _NAMED.finditer(text):
        if bits_per_character(found[2]) >= _LEAST_BITS and any(one.isdigit() for one in found[2]):
            yield found.span(2)


def bits_per_character(text: str) -> float:
    """The entropy of a text by its own characters."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


_TOKEN_SIGNS = (
    *(
        "akia",
        "asia",
        "abia",
        "acca",
        "aiza",
        "ghp_",
        "gho_",
        "ghu_",
        "ghs_",
        "ghr_",
        "github_pat_",
        "glpat-",
    ),
    *("gldt-", "glrt-", "xox", "hooks.slack.com", "k_live_", "sk-", "ck-", "hf_", "npm_", "pypi-age", "sg."),
    *(f"sk{digit}" for digit in "0123456789abcdef"),
    *("ltai", "akid", "dop_v1_", "eyj", "eyk"),
)
_PASSWORD_SIGNS = (
    *(f"{what}{dash}key" for what in ("api", "access") for dash in ("", "_", "-")),
    *("secret", "token", "passw", "passphrase", "pwd"),
)


def secret_detectors() -> tuple[Detector, ...]:
    return (
        Detector("secret", "[SECRET]", tokens, _LONGEST, _TOKEN_SIGNS, tail=_TAIL),
        Detector("secret", "[SECRET]", private_keys, 80, ("-----begin ",), 0, tail=_KEY_TAIL),
        Detector("secret", "[SECRET]", passwords, 64, _PASSWORD_SIGNS, 32, tail=_TAIL),
    )
