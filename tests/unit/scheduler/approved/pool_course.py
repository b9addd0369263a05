"""The course of a whole pool: what people apply and what happens to nodes and processes is drawn, and all
that the scheduler says about it is told as lines of text: statuses, events, bills, metrics, answers.

It is told pass by pass, and of a status only what has changed.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from common.errors import ComputilityError
from common.resources import Metadata, Node, Project, Queue, Workload
from common.resources.meta import Model
from common.resources.people import ProjectSpec
from common.resources.pool import DeviceBudget, DeviceQuota, DeviceRequest, QueueSpec
from common.resources.workload import (
    Readiness,
    RestartPolicy,
    Rollout,
    WorkloadAffinity,
    WorkloadRole,
    WorkloadSpec,
)
from common.settings import SchedulerSettings, Settings
from scheduler.insight.insight import Insight
from scheduler.loop import SchedulerLoop
from tests.fixtures.fabric import FakeFabric, accelerator, cpu_device
from tests.unit.scheduler.loop_scene import Scene

UID = re.compile(r"uid-[0-9a-z]{26}")
SERIES = ("computility_scheduler_", "computility_device_")
ROLES = {"rack": "computility.io/rack"}
CATALOGUE_FILE = Path(__file__).with_name("catalogue.yaml")
GIB = 1 << 30


class PoolCourse(Scene):
    """``rng`` draws all that happens."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self._number = 0
        self._told: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._last_event: str | None = None
        self.fabric = FakeFabric(self.clock, **{f"n{n}": _devices(f"n{n}", rng) for n in range(5)})
        for number, host in enumerate(self.fabric.hosts.values()):
            host.labels = {ROLES["rack"]: f"rack-{number // 2}"}
            host.cached = ("llama",) if number % 2 else ()
        self._settings = Settings(
            scheduler=SchedulerSettings(
                usage_interval_seconds=60, flap_backoff_seconds=30, catalogue_file=str(CATALOGUE_FILE)
            )
        )
        self.loop = SchedulerLoop(
            self.store, self.fabric, self.usage, self._settings, self.clock, rejected=self.rejected
        )

    async def play(self, passes: int) -> AsyncIterator[str]:
        """Pass after pass, then the answers to all questions that people may ask."""
        await self._set_up()
        for number in range(passes):
            for _ in range(self._rng.choice((1, 1, 2))):
                said = await self._happen()
                if said:
                    yield f"-- {said}"
            await self.loop.step()
            async for line in self._changes():
                yield line
            if number == passes // 2:
                async for line in self._answers():
                    yield line
            self.clock.advance(self._rng.choice((0.5, 2.0, 20.0, 61.0, 400.0)))
        async for line in self._answers():
            yield line
        for line in sorted([*self._bills(), *_series()]):
            yield line

    async def _set_up(self) -> None:
        for name in ("p", "q"):
            await self.store.apply(Project(metadata=Metadata(name=name), spec=ProjectSpec(tenant="acme")))
        quotas = [DeviceQuota(device_class="*", nominal_devices=8, lending_devices=6)]
        await self._queue("all", cohort=True)
        await self._queue("research", parent="all", quotas=quotas, weight=2)
        await self._queue("serving", parent="all", quotas=quotas, default_priority=5)
        budget = DeviceBudget(device_class="nvidia", device_hours=2)
        await self._queue("spare", max_devices=6, budgets=[budget])

    async def _queue(self, name: str, **spec: Any) -> None:
        await self.store.apply(Queue(metadata=Metadata(name=name), spec=QueueSpec(**spec)))

    # -- what happens

    async def _happen(self) -> str:
        """One thing, in words."""
        rng = self._rng
        acts: tuple[tuple[float, Callable[[], Awaitable[str]]], ...] = (
            (5, self._submit),
            (3, self._end_process),
            (2, self._answer_probes),
            (1, self._change_node),
            (1, self._change_device),
            (1, self._say_of_node),
            (2, self._change_workload),
            (1, self._delete),
        )
        (act,) = rng.choices([act for _, act in acts], [weight for weight, _ in acts])
        return await act()

    async def _submit(self) -> str:
        self._number += 1
        name, project, rng = f"w{self._number}", self._rng.choice("pq"), self._rng
        workload = _workload(rng, name, project)
        await self.store.apply(workload)
        return f"{name} is applied: {self._text(_plain(workload.spec))}"

    async def _end_process(self) -> str:
        alive = self.fabric.alive()
        if not alive:
            return ""
        _, uid, attempt = self._rng.choice(alive)
        code = self._rng.choice((0, 0, 1, 137))
        ranks = [
            rank.rank
            for host in self.fabric.hosts.values()
            for gang in host.gangs.values()
            if (gang.uid, gang.attempt) == (uid, attempt)
            for rank in gang.ranks
        ]
        ended = ranks if code == 0 else self._rng.sample(ranks, 1)
        for rank in ended:
            self.fabric.exit(uid, rank, code, attempt)
        return f"ranks {ended} of {self._name(uid)} end with {code}"

    async def _answer_probes(self) -> str:
        for uid in sorted({uid for _, uid, _ in self.fabric.alive()}):
            self.fabric.ready(uid)
        return "all answer their probes"

    async def _change_node(self) -> str:
        name = self._rng.choice(sorted(self.fabric.hosts))
        state = self._rng.choice(("Silent", "Lost", "Alive", "Alive"))
        self.fabric.hosts[name].state = state  # type: ignore[assignment]
        return f"{name} is {state}"

    async def _change_device(self) -> str:
        name = self._rng.choice(sorted(self.fabric.hosts))
        healthy = self._rng.random() < 0.5
        busy = self._rng.randrange(100)
        changes = {"healthy": healthy, "fault": "" if healthy else "XID 79", "utilisation_percent": busy}
        self.fabric.set_device(name, self._rng.randrange(2), **changes)
        return f"a device of {name} is {'healthy' if healthy else 'broken'} and {busy} % busy"

    async def _say_of_node(self) -> str:
        nodes = await self.store.list(Node)
        if not nodes:
            return ""
        node = self._rng.choice(nodes)
        changes = self._rng.choice(({"cordoned": True}, {"drain": True}, {}, {"taints": {"team": "x"}}))
        node.spec = node.spec.model_copy(update={"cordoned": False, "drain": False, "taints": {}, **changes})
        await self.store.apply(node)
        return f"{node.name} is said to be {changes}"

    async def _change_workload(self) -> str:
        workloads = [one for one in await self.store.list(Workload) if one.metadata.owner is None]
        if not workloads:
            return ""
        workload, rng = self._rng.choice(workloads), self._rng
        role = workload.spec.roles[0]
        changes = rng.choice(
            (
                {"suspend": not workload.spec.suspend},
                {"priority": rng.choice((0, 5, 9))},
                {"roles": [role.model_copy(update={"env": {"N": str(self._number)}})]},
                {"roles": [role.model_copy(update={"replicas": 2, "min_replicas": None})]},
            )
        )
        workload.spec = workload.spec.model_copy(update=changes)
        try:
            await self.store.apply(workload)
        except ComputilityError as error:
            return f"{workload.name} cannot have {sorted(changes)}: {error}"
        return f"{workload.name} gets other {', '.join(sorted(changes))}"

    async def _delete(self) -> str:
        workloads = [one for one in await self.store.list(Workload) if one.metadata.owner is None]
        if not workloads:
            return ""
        workload = self._rng.choice(workloads)
        await self.store.delete(Workload, workload.name, workload.project or "")
        return f"{workload.name} is deleted"

    # -- what is told

    async def _changes(self) -> AsyncIterator[str]:
        resources: list[Node | Queue | Workload] = [
            *await self.store.list(Node), *await self.store.list(Queue), *await self.store.list(Workload)
        ]  # fmt: skip
        self._names |= {one.metadata.uid: one.name for one in resources}
        for one in sorted(resources, key=lambda one: (one.kind, one.name)):
            now, key = _plain(one.status), f"{one.kind} {one.name}"
            before = self._told.get(key, {})
            self._told[key] = now
            for field in sorted({*now, *before}):
                if now.get(field) != before.get(field):
                    yield f"{key}.{field} = {self._text(now.get(field))}"
        for event in await self.store.events(after=self._last_event, limit=1000):
            self._last_event = event.id
            yield self._clean(f"{event.kind} {event.name}: {event.level} {event.reason}: {event.message}")

    async def _answers(self) -> AsyncIterator[str]:
        insight = Insight(self.store, self._settings, self.clock)
        overview = await insight.overview(lambda project: project == "p", limit=3)
        for part, rows in _plain(overview).items():
            yield f"overview {part} {self._text(rows)}"
        for workload in await self.store.list(Workload):
            told = _plain(await insight.explain(workload.name, workload.project or ""))
            yield f"explain {self._text(told)}"
        wanted = [_workload(self._rng, f"new{number}", "p") for number in range(3)]
        for at_head in (False, True):
            told = _plain(await insight.simulate(wanted, at_head=at_head))
            yield f"simulate {self._text(told)}"

    def _bills(self) -> Iterable[str]:
        for bill in self.usage.events.values():
            told = {key: value for key, value in asdict(bill).items() if value and key != "id"}
            yield f"bill {self._text(told)}"

    def _text(self, value: Any) -> str:
        return self._clean(json.dumps(value, separators=(",", ":"), sort_keys=True).replace('"', ""))

    def _clean(self, text: str) -> str:
        return UID.sub(lambda found: self._name(found[0]), text)

    def _name(self, uid: str) -> str:
        return self._names.get(uid, "somebody")


def _plain(model: Model) -> dict[str, Any]:
    """What is not as it is by default."""
    return model.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _devices(node: str, rng: random.Random) -> list[Any]:
    vendor, model = rng.choice(
        (("nvidia", "TestN"), ("nvidia", "TestN"), ("amd", "TestM"), ("ascend", "TestS"))
    )
    found = [accelerator(node, index, vendor, model) for index in range(rng.choice((2, 4, 8)))]  # type: ignore[arg-type]
    return found if rng.random() < 0.8 else [*found, cpu_device(node)]


def _workload(rng: random.Random, name: str, project: str) -> Workload:
    replicas = rng.choice((1, 1, 2, 3))
    independent = replicas > 1 and rng.random() < 0.3
    least = 1 if replicas > 1 and not independent and rng.random() < 0.4 else None
    role = WorkloadRole(
        name="main",
        replicas=replicas,
        min_replicas=least,
        command=["sleep", "600"],
        ports=["http"],
        devices=_request(rng),
        readiness=Readiness(port="http", start_timeout_seconds=100.0) if rng.random() < 0.5 else None,
    )
    surge = int(role.readiness is not None and rng.random() < 0.5)
    spec = WorkloadSpec(
        roles=[role],
        queue=rng.choice(("research", "serving", "spare", "default")),
        priority=rng.choice((None, 0, 5, 9)),
        kind=rng.choice(("training", "inference", "other")),
        restart=RestartPolicy(max_restarts=rng.choice((None, 1))),
        affinity=rng.choice(
            (WorkloadAffinity(), WorkloadAffinity(), WorkloadAffinity(data=["llama"]), _same_rack())
        ),
        movable=rng.random() < 0.3,
        preemptible=rng.random() < 0.9,
        expected_seconds=rng.choice((None, 120, 3600)),
        start_within_seconds=rng.choice((None, 300)),
        grace_seconds=rng.choice((None, 30.0)),
        rollout=Rollout(independent=independent, max_surge=surge),
    )
    labels = {"computility.io/model": "m", "computility.io/key": "key-1"} if rng.random() < 0.3 else {}
    return Workload(metadata=Metadata(name=name, project=project, labels=labels), spec=spec)


def _same_rack() -> WorkloadAffinity:
    return WorkloadAffinity(same=ROLES["rack"])


def _request(rng: random.Random) -> DeviceRequest:
    wants: Iterable[dict[str, Any]] = (
        {"count": 1},
        {"count": 2},
        {"count": 4, "vendors": ["nvidia", "amd"]},
        {"vendors": ["nvidia"]},
        {"not_vendors": ["ascend"], "cpu_millis": 1000},
        {"share_millis": 500, "memory_bytes": 20 * GIB},
        {"count": 16},
        {"count": 2, "vendors": ["cpu"]},
    )
    return DeviceRequest(**rng.choice(tuple(wants)))


def _series() -> Iterable[str]:
    """The metrics that the scheduler has set, without how long passes took."""
    for family in REGISTRY.collect():
        if family.name.startswith(SERIES) and family.name != "computility_scheduler_cycle_seconds":
            for sample in family.samples:
                labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
                yield f"metric {sample.name}{{{labels}}} {sample.value:g}"
