"""The one gate for names, numbers and sizes: what every text that enters the platform may look like.

Pure: the cores use it too. ``common.resources.fields`` holds the same rules as types of fields, and so in the
schema of the API. Lengths are such that whatever is derived from a name fits where it goes: a workload made
for an endpoint, a log folder, a slot of the gateway's journal, a label of Kubernetes.
"""

from __future__ import annotations

import re

NAME_CHARACTERS = 63
"""Of a name that people choose; also the length of a DNS label and of a label's value in Kubernetes."""
LONG_NAME_CHARACTERS = 253
"""Of a name that is derived (a Workload's) or comes from elsewhere (a Node's): a DNS name."""
SERVED_NAME_CHARACTERS = 128
"""Of what clients put in ``model`` to reach an Endpoint."""
ADAPTER_NAME_CHARACTERS = 384
"""Of a ``ft:<base>:<tenant>:<suffix>:<id>`` name: its parts at their longest fit."""
SUFFIX_CHARACTERS = 64
TEXT_CHARACTERS = 1024
"""Of a display name, a path, a source, a reason."""
MAX_NUMBER = 10**15
"""Of any quantity: a whole number that a float, a 64-bit column and JavaScript hold exactly."""
MAX_LIST = 64
"""Entries of a list or mapping that people write, unless its field says otherwise."""

NAME_PATTERN = r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"
LONG_NAME_PATTERN = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
SUFFIX_PATTERN = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?"

_ODD = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_ODD_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def matches(pattern: str, text: str) -> bool:
    """Whether the whole of ``text`` is of the pattern; a newline at its end does not slip through."""
    return re.fullmatch(pattern, text) is not None


def odd_character(text: str, *, lines: bool = False) -> str | None:
    """The first character that no name, label or message may hold, as ``U+0009``; None when there is none.

    These are control characters, line separators, halves of surrogate pairs, and characters that cannot be
    seen or turn the direction of text: two names that look the same are the same. With ``lines`` tabs, line
    feeds and marks of direction may stand.
    """
    found = (_ODD_IN_LINES if lines else _ODD).search(text)
    return f"U+{ord(found[0]):04X}" if found else None
