"""What an engine's answer holds beside OpenAI's members, as far as it is empty: parts of the engine's own
workings, of no use to a client.

A key is followed by a colon and, inside a string, every quote is preceded by a backslash: so a comma with a
bare quote behind it begins a member, whatever the model wrote.
"""

from __future__ import annotations

import re

NAMES = (
    "token_ids",
    "routed_experts",
    "prompt_token_ids",
    "prompt_text",
    "kv_transfer_params",
    "ec_transfer_params",
    "metrics",
)
_EMPTY = re.compile(rb',"(?:%b)":null(?=[,}])' % "|".join(NAMES).encode())


def without_empty_members(answer: bytes) -> bytes:
    """The answer less those of the engine's own members that are ``null``."""
    return _EMPTY.sub(b"", answer)
