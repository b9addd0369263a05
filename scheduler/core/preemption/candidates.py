"""First stage of preemption: what runs, by node and with its price, that places can be taken from.

Built once per trial, in two steps: classes of workloads that are alike to claimants (cheap, most claims end
there), and everything by node. What has changed in the trial since is noticed when it is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scheduler.core.model.types import WHOLE_MILLIS, Assignment, RunningView, WorkloadView
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.trial import Trial
from scheduler.core.pool.layout import ModelKey
from scheduler.core.preemption.claims import VictimClass
from scheduler.core.preemption.lower_bounds import Entry, LowerBounds
from scheduler.core.reshape.elastic import is_elastic

RESTART_MS = 60_000
"""What an eviction costs beyond the work that is lost, in milliseconds of one device: it starts again."""
RESUMES = 4
"""Workloads that can be moved or resized save their work: so many times cheaper."""
LEVEL_BITS = 52
"""Prices of one priority are below 2 ** LEVEL_BITS, also added up."""
REPLICAS = 1 << 12
"""Ranks with higher numbers than this are priced alike."""
MOST_LEVELS = 15
"""Further priorities are priced alike."""


@dataclass(slots=True)
class Candidate:
    """A running workload that may be taken from. ``price`` of all of it, ``rank_price`` of a rank that it
    can spare (0 = it is not elastic); ``millis``: of all its devices, on so many
    ``nodes``."""

    number: int
    running: RunningView
    kind: VictimClass
    price: int = 0
    rank_price: int = 0
    millis: int = 0
    nodes: int = 0
    _by_model: dict[ModelKey, int] | None = None

    @property
    def workload(self) -> WorkloadView:
        return self.running.workload

    @property
    def by_model(self) -> dict[ModelKey, int]:
        """Its millis of each model."""
        if self._by_model is None:
            held = millis_by_model(self.running.placement)
            self._by_model = {model: millis for model, millis in held.items() if millis}
        return self._by_model


def price_of_rank(candidate: Candidate, rank: Assignment) -> int:
    """Of one workload, the rank with the highest replica number costs least; roles shrink in proportion."""
    role = next(role for role in candidate.workload.roles if role.name == rank.role)
    spare = max(1, role.replicas - role.least)
    place = (rank.replica - role.least + 1) * (REPLICAS - 1) // spare
    return candidate.rank_price * REPLICAS + REPLICAS - 1 - min(max(0, place), REPLICAS - 1)


def _safe_ms(trial: Trial, queue: str) -> tuple[int, int, int]:
    """How long workloads of a queue are safe: from equals that take back, from more important ones that do,
    and from more important ones that take by priority."""
    rules = trial.tree.rules(queue)
    reclaim = rules.reclaim_min_runtime_seconds
    equals = trial.policy.min_run_seconds if reclaim is None else reclaim
    return equals * 1000, (reclaim or 0) * 1000, (rules.preempt_min_runtime_seconds or 0) * 1000


class Candidates:
    """All candidates of one trial: what is preemptible and not about to go, and who waits for nominated
    places; what was admitted in this trial is none.

    ``soon_gone``: what leaves and will be gone at a known time."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.classes: dict[VictimClass, list[RunningView]] = {}
        self.soon_gone: list[RunningView] = []
        self._by_node: CandidatesByNode | None = None
        self._free: dict[ModelKey, int] | None = None
        safe: dict[str, tuple[int, int, int]] = {}
        for running in trial.running.values():
            workload = running.workload
            if running.leaving:
                if running.ends_ms is not None:
                    self.soon_gone.append(running)
            elif workload.uid in trial.seated:
                waits = VictimClass(workload.queue, workload.priority, False)
                self.classes.setdefault(waits, []).append(running)
            elif workload.preemptible and running.started_ms < trial.now_ms:
                queue, age_ms = workload.queue, trial.now_ms - running.started_ms
                if queue not in safe:
                    safe[queue] = _safe_ms(trial, queue)
                born_ms = workload.created_ms if trial.tree.displaces_newer(queue) else 0
                ripe, loose, settled = (age_ms >= least_ms for least_ms in safe[queue])
                kind = VictimClass(queue, workload.priority, ripe, loose, settled, born_ms)
                if kind.ripe or kind.loose or kind.settled:
                    self.classes.setdefault(kind, []).append(running)

    @staticmethod
    def of(trial: Trial) -> Candidates:
        """Those of the trial, made when first asked for."""
        return trial.once(Candidates, Candidates)

    @property
    def free_millis(self) -> dict[ModelKey, int]:
        """What was free in the pool when first asked for, with what ``soon_gone`` holds: it only becomes
        less."""
        if self._free is None:
            self._free = self._trial.pool.free_millis()
            for running in self.soon_gone:
                for model, millis in millis_by_model(running.placement).items():
                    self._free[model] = self._free.get(model, 0) + millis
        return self._free

    @property
    def by_node(self) -> CandidatesByNode:
        if self._by_node is None:
            self._by_node = CandidatesByNode(self._trial, self.classes)
        return self._by_node


class CandidatesByNode:
    """``at``: by number of node, with the ranks there; ``classes``: in their order; ``millis``: what each of
    them holds of each model; ``below``: what clearing a node costs at least."""

    def __init__(self, trial: Trial, classes: Mapping[VictimClass, Sequence[RunningView]]) -> None:
        self._trial = trial
        self.classes = sorted(classes)
        self.all: list[Candidate] = []
        self.at: dict[int, list[tuple[Candidate, list[Assignment]]]] = {}
        levels = {priority: n for n, priority in enumerate(sorted({kind.priority for kind in classes}))}
        entries: list[Entry] = []
        kind_of: list[int] = []
        self.millis: dict[VictimClass, dict[ModelKey, int]] = {}
        for index, kind in enumerate(self.classes):
            level, total = min(levels[kind.priority], MOST_LEVELS), self.millis.setdefault(kind, {})
            kind_of += [index] * len(classes[kind])
            for running in classes[kind]:
                self._put_to_nodes(running, kind, level, entries, total)
        self.below = LowerBounds(trial.pool, self.classes, kind_of, entries)

    def _put_to_nodes(
        self,
        running: RunningView,
        kind: VictimClass,
        level: int,
        entries: list[Entry],
        total: dict[ModelKey, int],
    ) -> None:
        """Put it to its nodes. ``total`` counts the millis of its class."""
        candidate = Candidate(len(self.all), running, kind)
        self.all.append(candidate)
        by_node: dict[int, tuple[list[Assignment], list[int]]] = {}
        for rank in running.placement:
            millis = 0
            for share in rank.shares:
                millis += share.millis
                model = (share.vendor, share.model)
                total[model] = total.get(model, 0) + share.millis
            candidate.millis += millis
            node = self._trial.pool.number(rank.node)
            if node is not None:
                ranks, amounts = by_node.setdefault(node, ([], []))
                ranks.append(rank)
                amounts.append(millis)
        candidate.nodes = len(by_node)
        self._appraise(candidate, level)
        for node, (ranks, amounts) in by_node.items():
            self.at.setdefault(node, []).append((candidate, ranks))
            millis = sum(amounts)
            density = candidate.price / (millis or 1)
            if candidate.rank_price:
                density = min(density, candidate.rank_price * REPLICAS / max(1, *amounts))
            entries.append((node, candidate.number, millis, density, density / candidate.nodes))

    def _appraise(self, candidate: Candidate, level: int) -> None:
        """Device-milliseconds of work that would be lost; a rank of any priority is below any eviction."""
        running = candidate.running
        age_ms = max(0, self._trial.now_ms - running.started_ms)
        elastic = is_elastic(running.workload)
        saves = elastic or running.workload.movable
        cost = candidate.millis * age_ms // (RESUMES * WHOLE_MILLIS if saves else WHOLE_MILLIS)
        candidate.price = min(RESTART_MS + cost, (1 << LEVEL_BITS) - 1) << (LEVEL_BITS * (level + 1))
        if elastic:
            candidate.rank_price = ((1 + level) << 32) + min(age_ms // 1000, (1 << 32) - 1)

    def millis_of(self, kinds: Iterable[VictimClass]) -> dict[ModelKey, int]:
        """What all of these classes held at the start of the trial."""
        total: dict[ModelKey, int] = {}
        for kind in kinds:
            for model, millis in self.millis[kind].items():
                total[model] = total.get(model, 0) + millis
        return total
