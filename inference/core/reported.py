"""What a client says of its request for reports of usage: whom it serves, and tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billing.core.tags import check_tags, check_tags_size, check_user

_NO_TAGS: Mapping[str, str] = {}
_USERS = ("user", "safety_identifier")
"""What names an end user, the best first."""
_MEMBERS = frozenset((*_USERS, "metadata"))


def told_for_reports(content: Mapping[str, Any]) -> tuple[str, Mapping[str, str]]:
    """The end user and the tags of a body; empty where it names none. Raises ``InvalidInput`` naming the
    field."""
    if _MEMBERS.isdisjoint(content):
        return "", _NO_TAGS
    user, tags = "", content.get("metadata")
    for name in _USERS:
        found = content.get(name)
        if found is not None:
            check_user(found, name)
            user = user or found
    if tags is not None:
        check_tags(tags, "metadata")
    elif not user:
        return user, _NO_TAGS
    check_tags_size(user, tags or _NO_TAGS, "metadata" if tags else "user")
    return user, tags or _NO_TAGS
