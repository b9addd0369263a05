"""Whose usage a caller may see, and the times that it may ask for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from billing.store import UsageFilter
from billing.store.columns import TAG
from common.clock import parse_rfc3339
from common.errors import InvalidInput
from common.resources import Project, Tenant
from common.store.port import Store
from common.vocabulary import MAX_LIST, MAX_TIME_MS, shortened
from control.admission.access import Caller

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


async def scope_of(
    caller: Caller, store: Store, tenant: str | None = None, project: str | None = None
) -> UsageFilter:
    """All usage of the tenant and the project that the caller may see, and nothing of former namesakes.

    Raises ``Forbidden`` for roles that see none, ``NotFound`` for tenants and projects of others.
    """
    caller.require("usage", "read")
    principal = caller.principal
    if principal.is_platform_admin:
        return UsageFilter(tenant=tenant, project=project)
    if tenant is not None:
        caller.require_tenant(tenant)
    if project is not None:
        caller.require_project(project)
    if principal.tenant is None:
        raise caller.hidden("Tenant", tenant or "")
    project = project or principal.project
    born_ms = await _born_ms(store, principal.tenant, project)
    return UsageFilter(tenant=principal.tenant, project=project, born_ms=born_ms)


async def _born_ms(store: Store, tenant: str | None, project: str | None) -> int:
    """When the tenant and the project were made: usage from before is that of others who had the names."""
    made = (
        await store.find(Tenant, tenant) if tenant else None,
        await store.find(Project, project) if project else None,
    )
    return max((one.metadata.created_ms for one in made if one is not None), default=0)


def time_ms(name: str, text: str | None) -> int | None:
    """A date, an RFC 3339 time or milliseconds, as milliseconds since the epoch. Raises ``InvalidInput``."""
    if text is None:
        return None
    try:
        if text.isdecimal():
            return _in_range(int(text))
        return parse_rfc3339(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
    except ValueError as error:
        raise InvalidInput(
            f"{name}: {shortened(text, 80)!r} is no time; write 2026-01-31, 2026-01-31T12:00:00Z or "
            "milliseconds",
            param=name,
        ) from error


def _in_range(time_ms: int) -> int:
    if time_ms > MAX_TIME_MS:
        raise ValueError(f"{time_ms} ms is too far away")
    return time_ms


def tags_of(text: str | None) -> dict[str, Sequence[str]]:
    """``team=search,task=42`` as groups and the value of each. Raises ``InvalidInput``."""
    tags: dict[str, Sequence[str]] = {}
    for part in filter(None, (text or "").split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise InvalidInput(f"tag: {shortened(part, 80)!r} is no tag; write name=value", param="tag")
        tags[f"{TAG}{name}"] = (value,)
    if len(tags) > MAX_LIST:
        raise InvalidInput(f"tag: at most {MAX_LIST}, not {len(tags)}", param="tag")
    return tags
