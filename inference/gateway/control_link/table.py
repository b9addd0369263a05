"""The routing table, indexed for look-ups: who asks, and what of a name they may use."""

from __future__ import annotations

from billing.core.budgets import BudgetIndex
from billing.core.ceilings import Ceilings
from common.auth import Principal
from common.clock import Clock
from common.errors import ComputilityError, Forbidden, NotFound, Paused, Unauthenticated, Unavailable
from common.ids import secret_digest
from common.pauses import refusal
from common.wire import Route, RouteKey, RoutingTable
from inference.gateway.budgets.terms import book_of, terms_of
from inference.gateway.guardrails.index import GuardIndex

_SCHEME = b"bearer "
CHECKPOINT_MARK = ":ckpt-step-"
MOST_NAMED = 3
"""Names that a refusal tells."""


class RouteIndex:
    """One version of the table. Never changes; a new version makes a new index."""

    def __init__(self, table: RoutingTable) -> None:
        self.version = table.version
        self.routes = table.routes
        self._keys: dict[str, RouteKey] = {key.digest: key for key in table.keys}
        self.key_limits = {key.name: key.limits for key in table.keys if key.limits is not None}
        self.project_limits, self.tenant_limits = table.projects, table.tenants
        self.has_limits = bool(
            self.key_limits
            or self.project_limits
            or self.tenant_limits
            or any(route.limits is not None for route in table.routes)
        )
        """Whether anybody has any: where nobody has, requests are not looked at for them."""
        self.budgets = BudgetIndex([terms_of(one) for one in table.budgets]) if table.budgets else None
        """None where nobody has any."""
        self.guards = GuardIndex(table.guardrails) if table.guardrails else None
        """The same."""
        self.ceilings = Ceilings([book_of(one) for one in table.books])
        self.data = table.data
        self._pauses = {f"{one.scope}/{one.name}": one for one in table.pauses}
        self._by_model: dict[str, list[Route]] = {}
        self._by_other_name: dict[str, list[Route]] = {}
        for route in table.routes:
            self._by_model.setdefault(route.model, []).append(route)
            for name in _other_names(route):
                self._by_other_name.setdefault(name, []).append(route)

    def key_of(self, authorization: bytes, clock: Clock) -> RouteKey:
        """The bearer key. Raises ``Unauthenticated`` unless in force, ``Unavailable`` without a table."""
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated("no API key given; send it as `Authorization: Bearer <key>`")
        return self.in_force(_digest(authorization), clock.now_ms())

    def misses(self, authorization: bytes) -> bool:
        """Whether a bearer key is given that this table does not have."""
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            return False
        return _digest(authorization) not in self._keys

    def in_force(self, digest: str, now_ms: int) -> RouteKey:
        """The key of this digest. Raises what ``refusal`` says."""
        refused = self.refusal(digest, now_ms)
        if refused is not None:
            raise refused
        return self._keys[digest]

    def refusal(self, digest: str, now_ms: int) -> ComputilityError | None:
        """Why the key of this digest is not in force; None when it is."""
        key = self._keys.get(digest)
        if key is None and not self.version:
            return Unavailable("no keys are known: control was not reached, or not for long; try again later")
        if key is None:
            return Unauthenticated("incorrect API key: it is unknown or was revoked")
        if key.expires_ms is not None and key.expires_ms <= now_ms:
            return Unauthenticated("the API key has expired")
        if not self._pauses:
            return None
        return self.pause(f"key/{key.name}", f"project/{key.project or ''}", f"tenant/{key.tenant or ''}")

    def pause(self, *places: str) -> Paused | None:
        """Why nothing is answered for one of these places (``tenant/acme``); None where none is paused."""
        if not self._pauses:
            return None
        found = next((self._pauses[place] for place in places if place in self._pauses), None)
        return refusal(found.scope, found.name, found.since_ms, found.reason) if found is not None else None

    def find(self, principal: Principal, model: str) -> Route:
        """What ``model`` means to this principal. Raises ``NotFound``, alike for absent and hidden."""
        seen = [route for route in self._by_model.get(model, ()) if _sees(principal, route)]
        if not seen:
            raise NotFound(
                f"The model `{model}` does not exist or you do not have access to it."
                f"{_hint(model) or self._served_as(principal, model)}",
                code="model_not_found",
                param="model",
            )
        return seen[0] if len(seen) == 1 else min(seen, key=lambda route: _rank(principal, route))

    def candidate(self, project: str, model: str) -> Route | None:
        """The route of that name of a project, which a Route of another one may lead to; None where there is
        none, or it is a Route itself."""
        routes = self._by_model.get(model, ())
        return next((one for one in routes if one.project == project and one.door is None), None)

    def _served_as(self, principal: Principal, model: str) -> str:
        """What to ask for where the name is that of a Model or an Endpoint whose engines are called
        otherwise; only of those that the principal may use."""
        names = sorted({r.model for r in self._by_other_name.get(model, ()) if _sees(principal, r)})
        told = " or ".join(f"`{name}`" for name in names[:MOST_NAMED])
        return f" It is served as {told}: put that into `model`." if told else ""

    def visible(self, principal: Principal) -> list[Route]:
        """One route per name that the principal can use, by name."""
        names = sorted({route.model for route in self.routes if _sees(principal, route)})
        return [self.find(principal, name) for name in names]


def _other_names(route: Route) -> set[str]:
    """The names of the Models that its engines were started with, and of their Endpoint; of an adapter's
    none."""
    replicas = route.replicas if route.model == route.base_model else ()
    known = (key for one in replicas for key in (one.model_identity, one.endpoint))
    return {key.partition("/")[2] for key in known} - {route.model}


def _hint(model: str) -> str:
    """What to do where the name is that of a checkpoint, which is served when somebody asks for it."""
    base, mark, step = model.rpartition(CHECKPOINT_MARK)
    if not (base and mark and step.isascii() and step.isdigit()):
        return ""
    return (
        f" A checkpoint answers once it is served: `computility finetunes try JOB --step {step[:18]}`, or "
        f"POST /v1/fine_tuning/jobs/JOB/checkpoints/{step[:18]}/serve."
    )


def _digest(authorization: bytes) -> str:
    return secret_digest(authorization[len(_SCHEME) :].strip().decode("latin-1"))


def payer_of(principal: Principal, route: Route) -> tuple[str, str]:
    """(tenant, project) that is billed: those of the key or, for keys without a project, the route's.

    Raises ``Forbidden`` where that would bill another tenant.
    """
    if principal.project is not None and principal.tenant is not None:
        return principal.tenant, principal.project
    if not principal.is_platform_admin and route.tenant != principal.tenant:
        raise Forbidden(
            f"{route.model} belongs to another tenant: use a project's key, so that the project is billed"
        )
    return route.tenant, route.project


def places_of(payer: tuple[str, str], route: Route) -> tuple[str, ...]:
    """What may be paused of a request besides its key: who is billed, and the Model that answers."""
    tenant, project = payer
    return f"model/{route.model_identity}", f"project/{project}", f"tenant/{tenant}"


def _sees(principal: Principal, route: Route) -> bool:
    visible = route.shared or principal.sees_project(route.project, route.tenant)
    return visible and principal.may_use_model(route.model)


def _rank(principal: Principal, route: Route) -> tuple[int, str, str]:
    """Own project first, then own tenant, then what is shared, then what only a platform-admin sees: nobody's
    private name takes the place of a shared one for other tenants. By name in the end, for a stable choice.
    """
    if route.project == principal.project:
        nearness = 0
    elif route.tenant == principal.tenant:
        nearness = 1
    else:
        nearness = 2 if route.shared else 3
    return nearness, route.tenant, route.project
