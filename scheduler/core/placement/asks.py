"""What workloads ask for, apart from who asks: worked out once for all that ask the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from scheduler.core.model.types import WHOLE_MILLIS, Affinity, Labels, Request, RoleView, WorkloadView
from scheduler.core.pool.filters import FILTERS, count_for
from scheduler.core.pool.layout import Group, ModelKey
from scheduler.core.pool.pool import Pool
from scheduler.core.quota.quota import Openings

MET = 4096
"""So many workloads are known by themselves before they are forgotten again: a few heads of each queue."""

_Wishes = tuple[tuple[RoleView, ...], Affinity, Labels, str, tuple[str, ...], bool]


class Alternatives:
    """Models that need the same, and by queue which of them it may use."""

    __slots__ = ("models", "openings")

    def __init__(self, models: tuple[ModelKey, ...]) -> None:
        self.models = models
        self.openings: dict[str, Openings] = {}


class Ask:
    """``roles``: for each role the models that may serve it, with the millis that its least ranks take;
    ``needs``: for each model that may serve all or a part of it, the millis that the least of the gang would
    take; ``together``: the same the other way round (mostly all models need the same). ``number``: equal for
    workloads that are placed alike and may be admitted by the same queues."""

    __slots__ = ("needs", "number", "roles", "together")

    def __init__(self, number: int, roles: Sequence[Sequence[tuple[ModelKey, int]]]) -> None:
        self.number = number
        self.roles = roles
        self.needs: dict[ModelKey, int] = {}
        for alternatives in roles:
            for model, millis in alternatives:
                self.needs[model] = self.needs.get(model, 0) + millis
        self.together: tuple[tuple[int, Alternatives], ...] = ()


class Asks:
    """All asks met in one trial."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: dict[_Wishes, Ask] = {}
        self._alternatives: dict[tuple[ModelKey, ...], Alternatives] = {}
        self._of: dict[int, tuple[WorkloadView, Ask]] = {}

    def of(self, workload: WorkloadView) -> Ask:
        """The one ask of all that ask the same."""
        met = self._of.get(id(workload))
        if met is not None:
            return met[1]
        key = (
            workload.roles,
            workload.affinity,
            workload.labels,
            workload.kind,
            workload.allowed_queues,
            workload.preemptible,
        )
        ask = self._known.get(key)
        if ask is None:
            ask = self._known[key] = Ask(len(self._known), self._roles(workload.roles))
            ask.together = self._together(ask.needs)
        if len(self._of) == MET:
            self._of.clear()
        self._of[id(workload)] = workload, ask  # while it is kept, no other has its id
        return ask

    def roles(self, workload: WorkloadView) -> Sequence[Sequence[tuple[ModelKey, int]]]:
        """Those of its ask."""
        met = self._of.get(id(workload))
        return self.of(workload).roles if met is None else met[1].roles

    def _roles(self, roles: tuple[RoleView, ...]) -> tuple[tuple[tuple[ModelKey, int], ...], ...]:
        return tuple(
            tuple((model, role.least * millis) for model, millis in self._rank(role.request))
            for role in roles
        )

    def _together(self, needs: Mapping[ModelKey, int]) -> tuple[tuple[int, Alternatives], ...]:
        together = []
        for amount in sorted(set(needs.values())):
            models = tuple(model for model, millis in needs.items() if millis == amount)
            together.append((amount, self._alternatives.setdefault(models, Alternatives(models))))
        return tuple(together)

    def _rank(self, request: Request) -> tuple[tuple[ModelKey, int], ...]:
        known = self._pool.once(_Ranks).known
        if request not in known:
            known[request] = tuple(sorted(_rank_needs(self._pool.groups(), request).items()))
        return known[request]


class _Ranks:
    """What one rank needs of each model of the pool, by its request."""

    def __init__(self, _: Pool) -> None:
        self.known: dict[Request, tuple[tuple[ModelKey, int], ...]] = {}


def _rank_needs(groups: Iterable[Group], request: Request) -> dict[ModelKey, int]:
    needs: dict[ModelKey, int] = {}
    for group in groups:
        count = count_for(group, request)
        if count and all(question.passes(group, request) for question in FILTERS):
            millis = count * min(request.share_millis, WHOLE_MILLIS)
            needs[group.key] = max(millis, needs.get(group.key, 0))
    return needs
