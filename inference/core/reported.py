"""What a client says of its request for reports of usage: whom it serves, and tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billing.core.tags import check_tags, tags_that_fit, user_in_reports
from common.errors import InvalidInput

_NO_TAGS: Mapping[str, str] = {}
_USERS = ("user", "safety_identifier")
"""What names an end user, the best first."""
_MEMBERS = frozenset((*_USERS, "metadata"))


def told_for_reports(content: Mapping[str, Any]) -> tuple[str, Mapping[str, str]]:
    """The end user and the tags of a body, as far as a report has room for them; empty where it names none.
    Raises ``InvalidInput`` naming the field."""
    if _MEMBERS.isdisjoint(content):
        return "", _NO_TAGS
    user, tags = "", content.get("metadata")
    for name in _USERS:
        found = content.get(name)
        if found is not None and not isinstance(found, str):
            raise InvalidInput(f"{name}: must be text, not {type(found).__name__}", "invalid_type", name)
        user = user or found or ""
    user = user_in_reports(user)
    if tags is None:
        return user, _NO_TAGS
    check_tags(tags, "metadata")
    return user, tags_that_fit(user, tags)
