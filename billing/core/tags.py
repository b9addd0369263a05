"""What a request says of itself for reports: its end user, and tags. Bounded, and never part of a price."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import NoReturn

from common.errors import InvalidInput
from common.vocabulary import odd_character, shortened

MAX_TAGS = 16
TAG_NAME_CHARACTERS = 64
TAG_VALUE_CHARACTERS = 512
USER_CHARACTERS = 256
TAGS_BYTES = 768
"""Of user, names and values together, as JSON: an event has to fit a slot of the gateway's journal."""


def check_user(user: object, path: str = "user") -> None:
    """Raise ``InvalidInput`` naming ``path`` unless it is a text that can stand in a report."""
    _check_text(user, path, USER_CHARACTERS)


def check_tags(tags: object, path: str = "tags") -> None:
    """Raise ``InvalidInput`` unless these are few short texts by name; names the one that is wrong."""
    if not isinstance(tags, Mapping):
        _refuse(path, f"must be an object of texts, not {type(tags).__name__}", "invalid_type")
    if len(tags) > MAX_TAGS:
        _refuse(path, f"at most {MAX_TAGS} pairs, not {len(tags)}", "too_many_pairs")
    for name, value in tags.items():
        _check_text(name, path, TAG_NAME_CHARACTERS)
        if not name:
            _refuse(path, "a name is empty")
        _check_text(value, f"{path}.{shortened(name, TAG_NAME_CHARACTERS)}", TAG_VALUE_CHARACTERS)


def check_tags_size(user: str, tags: Mapping[str, str], path: str = "tags") -> None:
    """Raise ``InvalidInput`` when user, names and values, checked before, are too long together."""
    texts = (user, *tags, *tags.values())
    if not _fit(*texts):
        size = _json_bytes(*texts)
        _refuse(path, f"user, names and values have at most {TAGS_BYTES} bytes together, not {size}")


def user_in_reports(user: str) -> str:
    """An end user as reports name it: as it is, or by its digest where it is too long or holds what cannot
    be seen. Two users are never one."""
    if len(user) <= USER_CHARACTERS and not odd_character(user) and _fit(user):
        return user
    return f"sha256:{hashlib.sha256(user.encode(errors='surrogatepass')).hexdigest()}"


def tags_that_fit(user: str, tags: Mapping[str, str]) -> Mapping[str, str]:
    """The first of these tags, checked before, that an event has room for beside its user."""
    if _fit(user, *tags, *tags.values()):
        return tags
    kept: dict[str, str] = {}
    left = TAGS_BYTES - _json_bytes(user)
    for name, value in tags.items():
        left -= _json_bytes(name, value)
        if left < 0:
            break
        kept[name] = value
    return kept


def _fit(*texts: str) -> bool:
    # No character has more than six bytes in JSON, so most need no look at each.
    return 6 * sum(map(len, texts)) <= TAGS_BYTES or _json_bytes(*texts) <= TAGS_BYTES


def _json_bytes(*texts: str) -> int:
    return sum(len(json.dumps(text, ensure_ascii=False).encode()) - 2 for text in texts)


def _check_text(value: object, path: str, characters: int) -> None:
    if not isinstance(value, str):
        _refuse(path, f"must be text, not {type(value).__name__}", "invalid_type")
    if len(value) > characters:
        _refuse(path, f"at most {characters} characters, not {len(value)}", "string_too_long")
    odd = odd_character(value)
    if odd:
        _refuse(path, f"holds the character {odd}, which cannot be seen")


def _refuse(path: str, message: str, code: str = "") -> NoReturn:
    raise InvalidInput(f"{path}: {message}", code, path)
