"""Small worlds for tests of the simulator, and schedulers that decide one thing on purpose."""

from collections.abc import Callable, Sequence

from scheduler.core.model.types import (
    Admit,
    Decision,
    Defer,
    DeviceView,
    NodeView,
    Policy,
    QueueView,
    Reason,
    Request,
    RoleView,
    WorkloadView,
)
from scheduler.core.placement.placing import Stuck, place_gang
from scheduler.core.placement.snapshot import Snapshot
from scheduler.sim.engine import simulate
from scheduler.sim.jobs import Job
from scheduler.sim.options import Decide, Options
from scheduler.sim.result import SimResult

GIB = 1024**3


def gpu_node(name: str, devices: int = 4, vendor: str = "nvidia", model: str = "A100") -> NodeView:
    return NodeView(
        name,
        tuple(DeviceView(f"{name}/{n}", n, vendor, model, 80 * GIB) for n in range(devices)),
    )


def gpu_job(
    name: str,
    ranks: int = 1,
    seconds: float | None = 100.0,
    at_seconds: int = 0,
    least: int | None = None,
    queue: str = "default",
    expected_seconds: int | None = None,
    checkpoint_seconds: int = 30,
    restart_seconds: int = 0,
    resize_seconds: int = 0,
    kind: str = "training",
) -> Job:
    workload = WorkloadView(
        uid=f"uid-{name}",
        project="p",
        name=name,
        queue=queue,
        priority=0,
        created_ms=at_seconds * 1000,
        roles=(RoleView("main", ranks, Request(vendors=("nvidia",)), least),),
        expected_seconds=expected_seconds,
        kind=kind,  # type: ignore[arg-type]
    )
    return Job(workload, seconds, checkpoint_seconds, restart_seconds, resize_seconds)


def first_fit(snapshot: Snapshot, policy: Policy, now_ms: int) -> list[Decision]:
    """Admits in the order of submission whatever fits."""
    decisions: list[Decision] = []
    mark = snapshot.pool.mark()
    for workload in snapshot.pending:
        found = place_gang(workload, snapshot.pool, policy)
        if isinstance(found, Stuck):
            decisions.append(Defer(workload.uid, (Reason("NoRoom", "no room"),), "wait"))
        else:
            decisions.append(Admit(workload.uid, found))
    snapshot.pool.rollback(mark)
    return decisions


def then(script: dict[int, Callable[[Snapshot], Sequence[Decision]]]) -> Decide:
    """First fit, but at the times (seconds) of the script what the script says."""

    def decide(snapshot: Snapshot, policy: Policy, now_ms: int) -> Sequence[Decision]:
        act = script.get(now_ms // 1000)
        return act(snapshot) if act else first_fit(snapshot, policy, now_ms)

    return decide


def play(
    nodes: list[NodeView],
    jobs: list[Job],
    decide: Decide = first_fit,
    queues: Sequence[QueueView] = (QueueView("default"),),
    **more: object,
) -> SimResult:
    options = Options(
        **{"horizon_seconds": 1000, "start_ms": 0, "spans": 10, **more}  # type: ignore[arg-type]
    )
    return simulate(nodes, queues, jobs, Policy(), options, decide)
