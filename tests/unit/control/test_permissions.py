"""The permission table, row by row, and what a principal can see."""

import pytest

from common.resources import KINDS
from control.core.permissions import GRANTABLE, ROLES, TABLE, Owner, Verb, allows, may_grant, visible

WRITABLE_BY_MEMBERS = {"outcomes", "Model", "Endpoint", "files", "jobs", "batches", "Job", "Route"}


def test_every_kind_has_a_row_for_every_role() -> None:
    assert set(KINDS) <= set(TABLE)
    assert all(set(row) == set(ROLES) for row in TABLE.values())


@pytest.mark.parametrize("thing", TABLE)
def test_members_write_only_what_is_a_projects_own(thing: str) -> None:
    assert allows("member", thing, "write") == (thing in WRITABLE_BY_MEMBERS)


@pytest.mark.parametrize("thing", TABLE)
def test_agents_may_read_models_and_nothing_else(thing: str) -> None:
    assert allows("agent", thing, "read") == (thing == "Model")
    assert not allows("agent", thing, "write")
    assert not allows("agent", thing, "delete")


@pytest.mark.parametrize(
    "thing", ["Tenant", "Queue", "Price", "Node", "Workload", "Adapter", "sharing", "flags", "paths"]
)
def test_only_the_platform_writes_what_all_tenants_depend_on(thing: str) -> None:
    writers = [role for role in ROLES if allows(role, thing, "write")]
    assert writers == ["platform-admin"]


@pytest.mark.parametrize("kind", ["ApiKey", "File", "FineTune", "Batch"])
def test_nobody_writes_what_only_controllers_write(kind: str) -> None:
    assert not any(allows(role, kind, "write") for role in ROLES)


def test_what_the_table_does_not_name_is_denied() -> None:
    assert not allows("platform-admin", "Spaceship", "read")
    assert not allows("root", "Model", "read")


def test_nobody_gives_a_role_above_their_own() -> None:
    assert not may_grant("tenant-admin", "platform-admin")
    assert may_grant("tenant-admin", "member")
    assert not may_grant("root", "agent")
    assert GRANTABLE["member"] == GRANTABLE["agent"] == frozenset()


OWN = Owner(tenant="acme", project="search")
SIBLING = Owner(tenant="acme", project="ads")
FOREIGN = Owner(tenant="globex", project="lab")
SHARED = Owner(tenant="globex", project="lab", shared=True)
PUBLIC = Owner(public=True)
OWN_TENANT = Owner(tenant="acme")
FOREIGN_TENANT = Owner(tenant="globex")


@pytest.mark.parametrize(
    ("role", "seen"),
    [
        ("platform-admin", {OWN, SIBLING, FOREIGN, SHARED, PUBLIC, OWN_TENANT, FOREIGN_TENANT}),
        ("tenant-admin", {OWN, SIBLING, SHARED, PUBLIC, OWN_TENANT}),
        ("member", {OWN, SHARED, PUBLIC, OWN_TENANT}),
        ("agent", {OWN, SHARED, PUBLIC, OWN_TENANT}),
        ("root", {SHARED, PUBLIC}),
    ],
)
def test_what_each_role_sees(role: str, seen: set[Owner]) -> None:
    project = "search" if role in ("member", "agent") else None
    everything = (OWN, SIBLING, FOREIGN, SHARED, PUBLIC, OWN_TENANT, FOREIGN_TENANT)
    assert {owner for owner in everything if visible(role, "acme", project, owner)} == seen


@pytest.mark.parametrize("verb", ["write", "delete"])
def test_shared_things_of_others_can_only_be_read(verb: Verb) -> None:
    assert not visible("member", "acme", "search", SHARED, verb)
    assert not visible("tenant-admin", "acme", None, PUBLIC, verb)


def test_a_principal_without_tenant_owns_nothing_that_has_none() -> None:
    assert not visible("tenant-admin", None, None, Owner())
    assert not visible("member", None, None, Owner())
