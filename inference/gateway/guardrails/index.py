"""Which guardrails bind a request, by who pays for it, with which key, and for which model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import ComputilityError, Unavailable
from common.telemetry import get_logger
from common.wire import Route, RouteGuardrail
from inference.guardrails.policy import rules_of
from inference.guardrails.rules import Rules

_MOST_KNOWN = 4096
UNUSABLE = "guardrail_unusable"
"""The code of requests that are refused because a guardrail that binds them cannot be applied."""
_log = get_logger("gateway.guardrails")
Place = tuple[str, str, str, tuple[str, ...]]
"""Tenant, project, key and models of a request."""


@dataclass(frozen=True)
class Binding:
    """The rules that bind a request: of what goes in, and what comes out; None where there are none."""

    input: Rules | None
    output: Rules | None


class GuardIndex:
    """The guardrails of one routing table."""

    def __init__(self, guardrails: Sequence[RouteGuardrail]) -> None:
        self._guardrails = guardrails
        self._known: dict[Place, Binding | None] = {}

    def binding(self, tenant: str, project: str, key: str, route: Route) -> Binding | None:
        """What binds such requests; None where nothing does. Raises ``Unavailable`` where a guardrail that
        does cannot be applied here: what it forbids might pass else."""
        place = (tenant, project, key, _names_of(route))
        try:
            return self._known[place]
        except KeyError:
            found = self._found(place)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[place] = found
        return found

    def _found(self, place: Place) -> Binding | None:
        mine = [one for one in self._guardrails if _binds(one, place)]
        if not mine:
            return None
        try:
            made = [
                [rule for one in mine for rule in rules_of(one.name, one.guards, direction)]
                for direction in ("input", "output")
            ]
        except (ComputilityError, LookupError, TypeError, ValueError) as error:
            names = ", ".join(one.name for one in mine)
            _log.error("a guardrail cannot be applied", guardrails=names, error=type(error).__name__)
            raise Unavailable(
                f"a guardrail that binds this request cannot be applied here ({names}), so it is not served",
                code=UNUSABLE,
            ) from error
        ingoing, outgoing = (Rules(rules) if rules else None for rules in made)
        return Binding(ingoing, outgoing)


def _names_of(route: Route) -> tuple[str, ...]:
    """The models that a request may be answered by: what it names, and the candidates of a name that stands
    for several."""
    if route.door is None:
        return (route.model,)
    return (route.model, *sorted(one.model for one in route.door.candidates))


def _binds(guardrail: RouteGuardrail, place: Place) -> bool:
    wanted = (guardrail.tenant, guardrail.project, guardrail.key)
    if guardrail.model and guardrail.model not in place[3]:
        return False
    return all(not want or want == has for want, has in zip(wanted, place, strict=False))
