"""What may be written to a Guardrail: a scope that is there, lists that can be looked for, and nothing by
which a tenant would loosen what the platform has set."""

from __future__ import annotations

from common.errors import Conflict, InvalidInput
from common.resources import ApiKey, Guardrail, Project, Tenant
from common.resources.guardrails import MAX_TERMS_BYTES
from control.admission.access import Caller
from control.admission.lookup import References, missing
from control.admission.price_items import refused
from control.admission.rights import require
from control.core.permissions import Owner
from inference.guardrails.personal import REGIONS
from inference.guardrails.policy import rules_of

MAX_GUARDRAILS = 50
"""Of a tenant, or of the platform."""
MAX_BYTES_IN_ALL = 16 * MAX_TERMS_BYTES
"""Of the terms of all of them."""


async def check_guardrail(guardrail: Guardrail, caller: Caller, references: References) -> None:
    """Raise unless the guardrail may be written by the caller in place of the one that is stored, if any."""
    old = await references.stored(guardrail)
    if old is not None and not caller.sees(old):
        raise Conflict(f"the name {guardrail.name} is taken; choose another", param="metadata.name")
    if old is not None:
        check_guardrail_rights(old, caller)
    check_guardrail_rights(guardrail, caller)
    await _check_scope(guardrail, caller, references)
    _check_guards(guardrail)
    tenant = guardrail.spec.scope.tenant
    others = [
        one
        for one in await references.list(Guardrail)
        if one.name != guardrail.name and one.spec.scope.tenant == tenant
    ]
    if len(others) >= MAX_GUARDRAILS:
        message = f"{tenant or 'the platform'} has {MAX_GUARDRAILS} Guardrails, and may have no more"
        raise InvalidInput(message, "limit_reached")
    if sum(map(_bytes, [*others, guardrail])) > MAX_BYTES_IN_ALL:
        message = f"the terms of all of its Guardrails together are over {MAX_BYTES_IN_ALL} bytes"
        raise InvalidInput(message, "limit_reached", "spec.guards")


def check_guardrail_rights(guardrail: Guardrail, caller: Caller) -> None:
    """What is mandatory, or binds all tenants, is the platform's to say."""
    spec = guardrail.spec
    if spec.scope.tenant is None:
        require(caller, "limits", "spec.scope.tenant", "only a platform-admin binds all tenants; name yours")
    if spec.mandatory:
        require(caller, "limits", "spec.mandatory", "only a platform-admin writes what is mandatory")


async def _check_scope(guardrail: Guardrail, caller: Caller, references: References) -> None:
    scope = guardrail.spec.scope
    tenant = scope.tenant
    if tenant is not None and (
        not caller.sees_owner(Owner(tenant=tenant)) or await references.find(Tenant, tenant) is None
    ):
        raise missing("spec.scope.tenant", f"there is no Tenant {tenant!r}")
    if scope.project is not None:
        project = await references.find(Project, scope.project)
        if project is None or (tenant is not None and project.spec.tenant != tenant):
            raise missing("spec.scope.project", f"there is no such Project {scope.project!r}")
    if scope.key is not None:
        key = await references.find(ApiKey, scope.key)
        if key is None or not caller.sees(key):
            raise missing("spec.scope.key", f"there is no API key {scope.key!r}")


def _check_guards(guardrail: Guardrail) -> None:
    """Raise ``InvalidInput`` for what gateways could not look for."""
    for position, guard in enumerate(guardrail.spec.guards):
        path = f"spec.guards[{position}]"
        unknown = [one for one in guard.countries if one not in REGIONS]
        if unknown:
            raise refused(f"{path}.countries", f"there is no country {', '.join(unknown)}")
        try:
            rules_of(
                guardrail.name, [guard.to_dict()], "input" if guard.direction == "both" else guard.direction
            )
        except InvalidInput as error:
            raise refused(f"{path}.{error.param or 'kind'}", error.message) from error


def _bytes(guardrail: Guardrail) -> int:
    return sum(
        len(term.encode("utf-8", "surrogatepass")) for one in guardrail.spec.guards for term in one.terms
    )
