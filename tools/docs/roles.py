"""The tables of the page about roles, from the table that decides."""

from __future__ import annotations

from collections.abc import Iterator

from common.resources import KINDS
from control.core.permissions import GRANTABLE, MADE_ELSEWHERE, ROLES, TABLE, called
from tools.docs.markdown import table

BEGIN, END = "<!-- made from control/core/permissions.py -->", "<!-- end -->"


def roles_tables() -> str:
    """What each role may do, who gives which role, and how what nobody writes is made."""
    return "\n\n".join(
        (
            BEGIN,
            "## Resources",
            table(("", *ROLES), _rows(tuple(KINDS))),
            "## Other things",
            table(("", *ROLES), _rows(tuple(name for name in TABLE if name not in KINDS))),
            "## Who gives a role",
            table(("A key of role", "makes keys of role"), _grants()),
            "## What is made in another way",
            table(("", ""), sorted(MADE_ELSEWHERE.items())),
            END,
        )
    )


def _rows(things: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for thing in things:
        verbs = (", ".join(sorted(TABLE[thing][role], key=_ORDER.index)) or "–" for role in ROLES)
        yield f"**{called(thing)}**", *verbs


_ORDER = ("read", "write", "delete")


def _grants() -> Iterator[tuple[str, str]]:
    for role in ROLES:
        yield role, ", ".join(one for one in ROLES if one in GRANTABLE[role]) or "none"
