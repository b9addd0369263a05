"""A platform-admin's key acts with the rights of another role, and nobody gets more than they have."""

import pytest

from common.clock import VirtualClock
from common.errors import ComputilityError, Forbidden, InvalidInput, NotFound
from common.ids import secret_digest
from common.resources import ApiKey, Metadata
from common.resources.people import ApiKeySpec, ApiKeyStatus, Role
from control.admission.access import ACT_AS, Directory, DirectoryCache, authenticate


class Known(DirectoryCache):
    def __init__(self, role: Role) -> None:
        project = "team" if role == "member" else None
        key = ApiKey(
            metadata=Metadata(name="k", uid="u"),
            spec=ApiKeySpec(role=role, project=project, tenant="acme" if role == "tenant-admin" else None),
            status=ApiKeyStatus(digest=secret_digest("ck-1")),
        )
        self._known = Directory(1, {secret_digest("ck-1"): key}, {"team": "acme", "other": "rival"})

    async def current(self, at_least: int | None = None) -> Directory:
        return self._known


async def acting(role: Role, wanted: str | None) -> tuple[str, str, str | None, str | None]:
    headers = {"authorization": "Bearer ck-1", **({ACT_AS: wanted} if wanted is not None else {})}
    caller = await authenticate(headers, Known(role), VirtualClock())
    who = caller.principal
    assert caller.key_uid == "u"
    return who.key, who.role, who.tenant, who.project


@pytest.mark.parametrize(
    ("role", "wanted", "want"),
    [
        ("platform-admin", None, ("k", "platform-admin", None, None)),
        ("platform-admin", "member/team", ("k", "member", "acme", "team")),
        ("platform-admin", "tenant-admin/other", ("k", "tenant-admin", "rival", None)),
        ("member", None, ("k", "member", "acme", "team")),
    ],
)
async def test_who_acts(
    role: Role, wanted: str | None, want: tuple[str, str, str | None, str | None]
) -> None:
    assert await acting(role, wanted) == want


@pytest.mark.parametrize(
    ("role", "wanted", "error"),
    [
        ("platform-admin", "platform-admin/team", InvalidInput),
        ("platform-admin", "", InvalidInput),
        ("platform-admin", "member", NotFound),
        ("platform-admin", "member/none", NotFound),
        ("tenant-admin", "member/team", Forbidden),
        ("member", "tenant-admin/other", Forbidden),
    ],
)
async def test_who_may_not(role: Role, wanted: str, error: type[ComputilityError]) -> None:
    with pytest.raises(error):
        await acting(role, wanted)
