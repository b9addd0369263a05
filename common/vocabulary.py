r"""The one gate for names, numbers and sizes: what every text that enters the platform may look like.

Pure: the cores use it too. ``common.resources.fields`` holds the same rules as types of fields, and so in the
schema of the API. Lengths are such that whatever is derived from a name fits where it goes: a workload made
for an endpoint, a log folder, a slot of the gateway's journal, a label of Kubernetes.

Patterns are for the whole text, and mean the same to Python, to pydantic and in a JSON schema.
"""

from __future__ import annotations

import json
import re
import sys

NAME_CHARACTERS = 63
"""Of a name that people choose; also the length of a DNS label and of a label's value in Kubernetes."""
LONG_NAME_CHARACTERS = 253
"""Of a name that is derived (a Workload's) or comes from elsewhere (a Node's): a DNS name."""
SERVED_NAME_CHARACTERS = 128
"""Of what clients put in ``model`` to reach an Endpoint."""
ADAPTER_NAME_CHARACTERS = 384
"""Of a ``ft:<base>:<tenant>:<suffix>:<id>`` name: its parts at their longest fit."""
ADAPTER_NAME_BYTES = 768
"""The same in UTF-8."""
SUFFIX_CHARACTERS = 64
LABEL_KEY_CHARACTERS = LONG_NAME_CHARACTERS + 1 + NAME_CHARACTERS
TEXT_CHARACTERS = 1024
"""Of a display name, a path, a source, a reason."""
FILE_NAME_CHARACTERS = 255
MESSAGE_CHARACTERS = 4096
"""Of what a controller says about a resource."""
COMMAND_BYTES = 32 * 1024
"""Of a command, or of an environment, all words together; they are copied into each process's record."""
ENGINE_BYTES = COMMAND_BYTES // 2
"""Of what an Endpoint adds to the command, or to the environment, of its engines."""
ANNOTATION_BYTES = 64 * 1024
"""Of all annotations of a resource."""
EVENT_BYTES = 3500
"""Of all texts of a usage event, as JSON: it has to fit a slot of the gateway's journal."""
MAX_DOCUMENT_BYTES = 256 * 1024
"""Of a resource as it is applied: apiVersion, kind, metadata and spec as JSON."""
MAX_DOCUMENTS = 500
"""Resources in one apply."""
MAX_DEPTH = 32
"""Lists and mappings within each other in a document."""
MAX_NUMBER = 10**15
"""Of any quantity: a whole number that a float, a 64-bit column and JavaScript hold exactly."""
MAX_RATE = 10**9
"""Requests or tokens in a minute."""
MAX_FLOAT = sys.float_info.max
SOURCE_CHARACTERS = 512
"""Of where a model lies: with the folder that ``$(HOME_DIR)`` stands for it is still a path."""
MAX_SECONDS = 10**9
"""Of a length of time: 31 years."""
MAX_TIME_MS = 10**14
"""Of a point in time, in milliseconds since the epoch: the year 5138."""
MAX_PRIORITY = 10**6
MAX_LIST = 64
"""Entries of a list or mapping that people write, unless its field says otherwise."""
OWN_LABELS = 8
"""That controllers may add to those that people write."""

NAME_PATTERN = r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"
LONG_NAME_PATTERN = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
SUFFIX_PATTERN = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?"
WORD_PATTERN = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
LABEL_KEY_PATTERN = r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
VARIABLE_PATTERN = r"[A-Za-z_][A-Za-z0-9_]{0,127}"

# Control characters, line separators, and characters that cannot be seen or turn the direction of text.
_ODD = r"\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
_ODD_IN_LINES = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
_HALVES = r"\ud800-\udfff"
TEXT_PATTERN = f"[^{_ODD}]*"
LINES_PATTERN = f"[^{_ODD_IN_LINES}]*"
# What joins, fills or varies characters without being seen: of use in prose, but not in a name.
_UNSEEN = (
    r"\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c\u200d\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0000-\U000e0fff"
)
SERVED_NAME_PATTERN = rf"[^\s{_ODD}{_UNSEEN}]([^{_ODD}{_UNSEEN}]*[^\s{_ODD}{_UNSEEN}])?"

_FIND_ODD = re.compile(f"[{_ODD}{_HALVES}]")
_FIND_ODD_IN_LINES = re.compile(f"[{_ODD_IN_LINES}{_HALVES}]")
_FIND_HARMFUL = re.compile(f"(?![\t\n])[{_ODD}{_HALVES}]")


def matches(pattern: str, text: str) -> bool:
    """Whether the whole of ``text`` is of the pattern; a newline at its end does not slip through."""
    return re.fullmatch(pattern, text) is not None


def odd_character(text: str, *, lines: bool = False) -> str | None:
    """The first character that no name, label or message may hold, as ``U+0009``; None when there is none.

    These are control characters, line separators, halves of surrogate pairs, and characters that cannot be
    seen or turn the direction of text: they would tell names apart that nobody can. With ``lines`` tabs, line
    feeds and marks of direction may stand.
    """
    found = (_FIND_ODD_IN_LINES if lines else _FIND_ODD).search(text)
    return f"U+{ord(found[0]):04X}" if found else None


def harmless(text: str) -> str:
    """The text as it may be printed anywhere: tabs and line feeds stand, every other odd character becomes
    its escape, such as ``\\x1b``."""
    return _FIND_HARMFUL.sub(lambda found: _escape(found[0]), text)


def one_line(text: str) -> str:
    """A name as it may stand where ``odd_character`` finds nothing: odd characters become their escapes."""
    return _FIND_ODD.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def shortened(text: str, characters: int = MESSAGE_CHARACTERS) -> str:
    """A harmless text of at most so many characters, for what others wrote and we only pass on."""
    if not text:
        return text
    text = harmless(text[: characters + 1])
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def quoted(value: object, characters: int = 80) -> str:
    """Any value as a message may quote it: a text between quotes, all else as JSON has it."""
    if isinstance(value, str):
        return shortened(repr(value), characters)
    try:
        return shortened(json.dumps(value, ensure_ascii=False), characters)
    except (TypeError, ValueError, RecursionError):  # a date of YAML, a number of very many digits, a circle
        return "a value that JSON does not have"
