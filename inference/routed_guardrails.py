"""What gateways must know of Guardrails."""

from __future__ import annotations

from common.resources import Guardrail
from common.store.port import Store
from common.wire import RouteGuardrail


async def guardrails_of(store: Store) -> tuple[RouteGuardrail, ...]:
    """All of them, by name."""
    return tuple(map(_guardrail, sorted(await store.list(Guardrail), key=lambda one: one.name)))


def _guardrail(guardrail: Guardrail) -> RouteGuardrail:
    scope = guardrail.spec.scope
    return RouteGuardrail(
        name=guardrail.name,
        tenant=scope.tenant or "",
        project=scope.project or "",
        key=scope.key or "",
        model=scope.model or "",
        guards=tuple(guard.to_dict() for guard in guardrail.spec.guards),
    )
