"""What people are told about drawn pools is what was approved: overview, explain, simulate, tides and the
load of devices."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from common.clock import VirtualClock
from common.errors import ComputilityError, NotFound, Unavailable
from common.guard import HANDLED
from common.resources import Metadata, Node, Project, Queue, Workload
from common.resources.meta import Owner
from common.resources.people import ProjectSpec
from common.resources.pool import (
    Device,
    DeviceBudget,
    DeviceQuota,
    DeviceRequest,
    DeviceUse,
    NodeSpec,
    NodeStatus,
    QueueSpec,
)
from common.resources.workload import (
    Grant,
    NextGang,
    PendingReason,
    RankPlacement,
    RestartPolicy,
    Rollout,
    WorkloadRole,
    WorkloadSpec,
    WorkloadStatus,
)
from common.settings import PolicySettings, SchedulerSettings, Settings
from common.store.memory import MemoryStore
from common.store.port import Event
from common.vendors import Vendor
from scheduler.core.lifecycle.lifecycle import HOLDING
from scheduler.core.tide.tidal import LoadRule
from scheduler.insight.device_series import node_series
from scheduler.insight.insight import Insight
from scheduler.ports import DeviceSample
from scheduler.serving_need import Need
from scheduler.translate.views import roles_digest
from tests.fixtures.drawing import NOW_MS, Drawn
from tests.fixtures.past_the_gate import put
from tests.unit.scheduler.drawn.courses import PARTS, Answers, Course, check_courses
from tests.unit.scheduler.drawn.desk import POOLS

MODELS: tuple[tuple[Vendor, str], ...] = (
    ("nvidia", "H100"),
    ("nvidia", "A100"),
    ("amd", "MI300X"),
    ("cpu", "cpu"),
)
PHASES = (
    "Pending",
    "Pending",
    "Pending",
    "Running",
    "Running",
    "Ready",
    "Restarting",
    "Preempting",
    "Suspended",
    "Succeeded",
)


class Town:
    """A pool of four nodes, queues in a cohort, and workloads that run and wait there."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.clock = rng, VirtualClock()
        self.clock.advance((NOW_MS - self.clock.now_ms()) / 1000)
        self.store = MemoryStore(self.clock)
        self.free: dict[str, list[Device]] = {}
        for name in "abcd"[: rng.choice((3, 4))]:
            self._add_node(name)
        for name, parent in (("all", None), ("a", "all"), ("b", "all"), ("c", "nowhere"), ("default", None)):
            put(self.store, self._queue(name, parent))
        for name in ("p", "q"):
            spec = ProjectSpec(tenant="t", queues=rng.choice(([], [], ["a", "default"])))
            put(self.store, Project(metadata=Metadata(name=name), spec=spec))
        for number in range(12):
            put(self.store, self._workload(f"w{number}"))

    def _add_node(self, name: str) -> None:
        rng = self.rng
        vendor, model = rng.choice(MODELS)
        devices = [
            Device(
                id=f"{name}-{n}",
                index=n,
                vendor=vendor,
                model=model,
                memory_bytes=80,
                slots=4 if vendor == "cpu" else 1,
                healthy=rng.random() < 0.9,
                utilisation_percent=rng.choice((None, 3, 50)),
                memory_used_bytes=rng.choice((None, 40)),
                power_watts=rng.choice((None, 300)),
            )
            for n in range(rng.choice((1, 2, 4)))
        ]
        status = NodeStatus(devices=devices, cpu_cores=8, memory_bytes=1000)
        status.set_condition("Ready", rng.random() < 0.85, "AgentAnswers", now_ms=1, generation=1)
        if rng.random() < 0.3:
            status.set_condition(
                "Responsive", rng.random() < 0.5, "AgentLate", now_ms=NOW_MS - 61_000, generation=1
            )
        status.flapping_until_ms = rng.choice((None, None, NOW_MS + 60_000))
        spec = NodeSpec(
            cordoned=rng.random() < 0.1,
            drain=rng.random() < 0.15,
            taints=rng.choice(({}, {}, {}, {"team": "x"})),
        )
        put(self.store, Node(metadata=Metadata(name=name), spec=spec, status=status))
        self.free[name] = list(devices)

    def _queue(self, name: str, parent: str | None) -> Queue:
        rng = self.rng
        quotas = [
            DeviceQuota(
                device_class=kind,
                nominal_devices=rng.choice((0.5, 1, 3)),
                borrowing_devices=rng.choice((None, 1)),
            )
            for kind in rng.choice(((), ("*",), ("nvidia", "amd"), ("nvidia/H100", "nvidia")))
        ]
        budgets = [
            DeviceBudget(
                device_class="*", device_hours=rng.choice((1, 5)), period=rng.choice(("day", "week"))
            )
        ]
        spec = QueueSpec(
            parent=parent,
            cohort=name == "all",
            weight=rng.choice((0, 1, 2)),
            quotas=quotas,
            max_devices=rng.choice((None, None, 2)),
            budgets=budgets if rng.random() < 0.3 else [],
        )
        queue = Queue(metadata=Metadata(name=name), spec=spec)
        queue.status.used = [
            DeviceUse(device_class="nvidia/H100", day_seconds=7200, week_seconds=9000, decayed_seconds=50)
        ]
        return queue

    def _workload(self, name: str) -> Workload:
        rng = self.rng
        spec, phase = self.spec(rng.random() < 0.15), rng.choice(PHASES)
        ranks = self._placed(spec) if phase in HOLDING else []
        status = WorkloadStatus.model_validate(
            {"phase": phase if ranks or phase not in HOLDING else "Pending"}
        )
        status.ranks, status.attempt, status.restarts = ranks, rng.randrange(3), rng.randrange(3)
        status.placed_digest = rng.choice((roles_digest(spec.roles), "other"))
        status.message, status.leaves_by_ms = rng.choice(("", "as before")), rng.choice((None, NOW_MS + 9000))
        status.admitted_ms = NOW_MS - rng.choice((1000, 90_000, 4_000_000)) if ranks else None
        status.next_start_ms = rng.choice((None, None, NOW_MS + 5000))
        if ranks and rng.random() < 0.2:
            beside = rng.random() < 0.5
            status.next = NextGang(
                cause="Update", beside=beside, attempt=9, digest="d", ranks=self._placed(spec)
            )
        if status.phase == "Pending" and rng.random() < 0.3:
            status.pending = [
                PendingReason(code=rng.choice(("StillStopping", "NoRoom")), message="m", nodes=2)
            ]
        if rng.random() < 0.1:
            status.set_condition(HANDLED, False, "InternalError", "boom", now_ms=1, generation=1)
        owner = Owner(kind="Workload", name="w0", uid="uid-w0") if rng.random() < 0.15 else None
        metadata = Metadata(
            name=name,
            project=rng.choice("pppqqr"),
            uid=f"uid-{name}",
            created_ms=NOW_MS - rng.randrange(10**6),
            owner=owner,
        )
        return Workload(metadata=metadata, spec=spec, status=status)

    def spec(self, independent: bool = False) -> WorkloadSpec:
        """What somebody may ask for here."""
        rng, replicas = self.rng, self.rng.choice((1, 1, 2, 3))
        wanted: tuple[list[Vendor], ...] = ([], ["nvidia"], ["amd"])
        role = WorkloadRole(
            name="main",
            replicas=replicas,
            min_replicas=None if independent else rng.choice((None, None, 1)),
            command=["x"],
            devices=DeviceRequest(count=rng.choice((1, 1, 2, 0)), vendors=rng.choice(wanted)),
        )
        return WorkloadSpec(
            roles=[role],
            queue=rng.choice(("a", "a", "b", "c", "default", "none")),
            priority=rng.choice((None, 0, 5)),
            expected_seconds=rng.choice((None, 60, 3600)),
            kind=rng.choice(("training", "inference", "other")),
            movable=rng.random() < 0.3,
            suspend=rng.random() < 0.1,
            restart=RestartPolicy(policy=rng.choice(("OnFailure", "Always", "Never"))),
            rollout=Rollout(independent=independent),
        )

    def _placed(self, spec: WorkloadSpec) -> list[RankPlacement]:
        """On devices that nobody has, as far as there are any."""
        ranks = []
        for number in range(spec.roles[0].replicas):
            node = self.rng.choice([name for name, left in self.free.items() if left] or [""])
            if node:
                one = self.free[node].pop()
                grant = Grant(
                    device=one.id, index=one.index, vendor=one.vendor, model=one.model, memory_bytes=80
                )
                ranks.append(
                    RankPlacement(
                        role="main", replica=number, rank=number, node=node, grants=[grant], state="Running"
                    )
                )
        return ranks


async def _pools(drawn: Drawn) -> Answers:
    """All answers about one pool."""
    rng, town = drawn.rng, Town(drawn.rng)
    for number in range(rng.choice((0, 4))):
        data: Mapping[str, object] = {
            "seconds": 100.0 + number,
            "devices": rng.choice((1, 2)),
            "workloadKind": "training",
        }
        event = Event(
            id=f"e{number}",
            time_ms=NOW_MS - 1000 + number,
            level="info",
            reason="Succeeded",
            message="m",
            kind="Workload",
            name=f"w{rng.randrange(12)}",
            project="p",
            data=data,
        )
        await town.store.record(event)
    windows = [
        {"window": "Mon-Sun 00:00-24:00", "device_class": "nvidia", "inference_devices": rng.choice((0, 2))}
    ]
    policy = PolicySettings.model_validate({"tides": windows if rng.random() < 0.5 else []})
    settings = Settings(scheduler=SchedulerSettings(stop_grace_seconds=7.0, policy=policy))
    rule = LoadRule("amd", 1.0, 1000, ahead_seconds=120)
    needs = {
        "amd": Need(rule, 2, 1.25, 1.5, rng.choice((None, NOW_MS, NOW_MS - 10**6))),
        "nvidia": Need(rule, 0, 0.0, 0.0, NOW_MS),
    }
    insight = Insight(town.store, settings, town.clock, needs=rng.choice((None, needs)))
    yield (await insight.overview(lambda project: project == "p", limit=2)).model_dump()
    yield (await insight.overview(lambda project: True, nodes=False, queues=False)).model_dump()
    for workload in await town.store.list(Workload):
        told = await insight.explain(workload.name, workload.project or "")
        yield workload.name, told.model_dump()
    known = rng.choice(await town.store.list(Workload))
    asked = [
        Workload(metadata=Metadata(name=f"new{n}", project=rng.choice("pq")), spec=town.spec())
        for n in range(2)
    ]
    group = Workload(metadata=asked[1].metadata, spec=town.spec(independent=True))
    again = Workload(metadata=Metadata(name=known.name, project=known.project), spec=town.spec())
    for at_head in (False, True):
        for workloads in (asked, [group], [again]):
            yield (await insight.simulate(workloads, at_head=at_head)).model_dump()


class _Agent:
    def __init__(self, series: Mapping[str, Sequence[DeviceSample]] | Exception) -> None:
        self._series = series

    async def series(self, node: str) -> Mapping[str, Sequence[DeviceSample]]:
        if isinstance(self._series, Exception):
            raise self._series
        return self._series


async def _loads(drawn: Drawn) -> Answers:
    """What the devices of a node did."""
    rng = drawn.rng
    devices = [drawn.of(Device, id=f"d{n}") for n in range(rng.choice((0, 1, 2)))]
    node = Node(metadata=Metadata(name="n"), status=NodeStatus(devices=devices))
    samples = {
        f"d{n}": [drawn.of(DeviceSample, time_ms=NOW_MS - 700 * k) for k in range(9)] for n in range(2)
    }
    agent: Any = _Agent(rng.choice((samples, samples, NotFound("no node"), Unavailable("no answer"))))
    for device in (None, "d0", "x"):
        try:
            yield (await node_series(agent, node, device, 4, rng.choice((0, 2)), NOW_MS)).model_dump()
        except ComputilityError as error:
            yield error


COURSES: dict[str, Course] = {"pools": (_pools, 14), "loads of devices": (_loads, 20)}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", COURSES)
async def test_people_are_told_of_a_pool_as_approved(
    name: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await check_courses(Path(__file__), name, part, COURSES[name], monkeypatch, POOLS)
