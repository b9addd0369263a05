"""What a client says of its request: user and tags, for reports of usage, and the class of its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billing.core.tags import check_tags, tags_that_fit, user_in_reports
from common.errors import InvalidInput

_NO_TAGS: Mapping[str, str] = {}
_USERS = ("user", "safety_identifier")
"""What names an end user, the best first."""
_MEMBERS = frozenset((*_USERS, "metadata"))


CLASS_TAG = "data_class"
"""The pair of the metadata that says of which class a request's data are."""


def told_class(metadata: object) -> str:
    """The class that the metadata of a body say, checked before; empty where they say none. Unlike tags for
    reports, it is never left out for want of room."""
    told = metadata.get(CLASS_TAG) if isinstance(metadata, Mapping) else None
    return told if isinstance(told, str) else ""


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
