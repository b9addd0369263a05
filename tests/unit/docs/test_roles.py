"""The page about roles says what the table that decides says, and a refusal says which role would do."""

import re

import pytest

from control.core.permissions import GRANTABLE, MADE_ELSEWHERE, PAGE, ROLES, TABLE, allows, may_grant, refusal
from tests.unit.docs.documents import ROOT, commands
from tests.unit.docs.test_what_documents_name import parse
from tools.docs.roles import BEGIN, END, roles_tables

pytestmark = pytest.mark.unit
REFUSED = [
    (role, verb, thing)
    for thing, row in TABLE.items()
    for role in ROLES
    for verb in ("read", "write", "delete")
    if verb not in row[role]
]


def test_the_page_has_the_table_that_decides() -> None:
    page = (ROOT / PAGE).read_text()
    assert page[page.index(BEGIN) : page.index(END) + len(END)] == roles_tables(), (
        "write it anew: the text between the marks is `tools.docs.roles.roles_tables()`"
    )


@pytest.mark.parametrize(("role", "verb", "thing"), REFUSED, ids=map("-".join, REFUSED))
def test_a_refusal_says_what_would_do_and_who_can_give_it(role: str, verb: str, thing: str) -> None:
    said = refusal(role, "ci", verb, thing)  # type: ignore[arg-type]
    for line in re.findall(r"`([^`]+)`", said):
        for words in commands(line):
            parse(words)
    may = [one for one in ROLES if allows(one, thing, verb)]  # type: ignore[arg-type]
    if thing in MADE_ELSEWHERE and (verb == "write" or not may):
        assert "`computility" in said
    elif may:
        nearest = next(one for one in reversed(ROLES) if one in may)
        assert f"--role {nearest}" in said
        for one in ROLES:
            assert (f"a {one} makes" in said.lower() or f"a {one} or " in said.lower()) == may_grant(
                one, nearest
            )
        assert f"; {' or '.join(reversed(may))} may." in said
        assert PAGE in said
    else:
        assert "nor may any other" in said


def test_somebody_can_give_every_role() -> None:
    assert all(any(role in GRANTABLE[giver] for giver in ROLES) for role in ROLES)
