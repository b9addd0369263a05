"""The endpoint controller: Endpoints become Workloads, and ready engines get their adapters."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Collection, Iterable, Sequence
from functools import partial

from common.clock import Clock
from common.errors import InvalidInput
from common.guard import Fault, ResourceGuard
from common.loop import LoopHealth, run_passes
from common.resources import Adapter, Endpoint, Model, Workload
from common.resources.serving import Replica
from common.settings import Settings
from common.sources import local_path
from common.store.kept import KeptList, owned_workloads
from common.store.port import Store
from common.store.transitions import event_of, write_status
from common.telemetry import get_logger
from inference.adapter_files import AdapterFiles
from inference.adapter_status import ReplicaReport, report_adapter, report_gone
from inference.adapter_sync import AdapterSync, Held, WantedAdapter
from inference.auto_duties import assign_duties
from inference.autoscaling.draining import Draining
from inference.canary.engines import by_role
from inference.endpoint_status import fill_status
from inference.engine_memory import EngineMemory
from inference.engine_workload import engine_role, replica_of
from inference.model_files import ModelFiles
from inference.model_status import ModelStatusKeeper
from inference.ports import Engines
from inference.rolling_out import plan_pass
from inference.wanted_engine import WantedEngine, WantedEngines

_TICK_SECONDS = 2.0
_REST_TICK_SECONDS = 10.0
"""While all Models, Endpoints and Adapters are as they should be."""
KINDS = tuple(kind.__name__ for kind in (Model, Endpoint, Adapter, Workload))
"""What it looks at in the store."""
NEW_PER_PASS = 16
"""Workloads that one pass makes for one project; each is a write here and one of the scheduler's."""
GONE_PER_PASS = 64
"""Workloads that one pass removes for one project."""

_log = get_logger(__name__)
_FoundModel = tuple[Model, ModelFiles]
_Wanted = tuple[Adapter, WantedAdapter]
_ModelKey = tuple[str | None, str]
_WantedByModel = defaultdict[_ModelKey, list[_Wanted]]
_ReportsByModel = defaultdict[_ModelKey, list[ReplicaReport]]
"""So that nothing compares each adapter with each Endpoint."""


class EndpointController:
    """Owns the Workloads of Endpoints, and the status of Endpoints, Models and Adapters."""

    def __init__(
        self,
        store: Store,
        engines: Engines,
        settings: Settings,
        clock: Clock,
        memory: EngineMemory | None = None,
    ) -> None:
        """Without ``memory`` it is not said beforehand that engines are too large for all devices."""
        self._store, self._engines, self._settings, self._clock = store, engines, settings, clock
        self._memory = memory
        self._workloads = owned_workloads(store, Endpoint.__name__)
        self._kept_models = KeptList(store, Model)
        self._kept_endpoints = KeptList(store, Endpoint)
        self._kept_adapters = KeptList(store, Adapter)
        self._wanted_engines = WantedEngines(settings.engine, settings.tracing.engines_url)
        self._sync = AdapterSync(engines, clock)
        self._adapter_files = AdapterFiles(clock)
        self._files_gone: Collection[str] = ()
        self._models = ModelStatusKeeper(store, settings, clock)
        self._draining = Draining(store, engines, clock, settings.engine.drain_timeout_seconds)
        self._guard = ResourceGuard("endpoints", store, clock)
        self._parts = self._guard.items
        self._complete: set[tuple[str, int]] = set()
        """Starts of engines that hold all adapters that they can."""
        self._is_at_rest = False
        self._made: Counter[str | None] = Counter()
        self._gone: Counter[str | None] = Counter()

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Pass after pass until ``stop`` is set: after each change of what it looks at, and every two
        seconds; every ten where nothing is amiss."""
        try:
            await run_passes(
                "endpoints",
                self.step,
                self._store,
                stop,
                self.tick_seconds,
                health,
                rests=True,
                kinds=KINDS,
            )
        finally:
            await self._models.close()

    def tick_seconds(self) -> float:
        """How long after this pass the next one is made, where no change in the store comes before it."""
        return _REST_TICK_SECONDS if self._is_at_rest else _TICK_SECONDS

    async def step(self) -> None:
        """One pass over all Models, Endpoints and Adapters. The trouble of one holds up no other."""
        self._is_at_rest = False
        self._made.clear()
        self._gone.clear()
        models = await self._observe_models()
        endpoints = await self._kept_endpoints.copies()
        adapters = await self._kept_adapters.copies()
        owned = await self._owned_workloads({endpoint.metadata.uid for endpoint in endpoints})
        wanted = await self._all_wanted(adapters)
        reports: _ReportsByModel = defaultdict(list)
        await _all(
            self._guard.handle(endpoint, partial(self._endpoint, endpoint, models, owned, wanted, reports))
            for endpoint in endpoints
        )
        workloads = [workload for group in owned.values() for workload in group]
        starts = {(w.metadata.uid, w.status.attempt) for w in workloads}
        self._sync.forget_all_but(starts)
        self._complete &= starts
        self._draining.forget_all_but({workload.metadata.uid for workload in workloads})
        for adapter in adapters:
            await self._guard.handle(adapter, partial(self._adapter, adapter, reports))
        self._parts.forget_gone()
        self._wanted_engines.forget_all_but({endpoint.metadata.uid for endpoint in endpoints})
        ready = (
            *(model.status.is_true("Ready") for model, _ in models.values()),
            *(endpoint.status.is_true("Ready") for endpoint in endpoints),
            *(adapter.status.is_true("Served") for adapter in adapters),
        )
        self._is_at_rest = all(ready) and not self._draining.is_under_way

    async def _observe_models(self) -> dict[tuple[str | None, str], _FoundModel]:
        found: dict[tuple[str | None, str], _FoundModel] = {}

        async def observe(model: Model) -> Fault | None:
            found[(model.project, model.name)] = (model, await self._models.observe(model))
            return None

        for model in await self._kept_models.copies():
            fault = await self._guard.handle(model, partial(observe, model))
            if fault is not None:
                found[(model.project, model.name)] = (model, ModelFiles(False, fault.reason, fault.message))
        return found

    async def _owned_workloads(self, endpoint_uids: set[str]) -> dict[str, list[Workload]]:
        """Workloads of endpoints by the endpoint's uid; those whose endpoint is gone are deleted, some in
        this pass, the others in the next."""
        owned: dict[str, list[Workload]] = {}
        for workload in await self._workloads.now():
            owner = workload.metadata.owner
            if owner is not None and owner.uid in endpoint_uids:
                owned.setdefault(owner.uid, []).append(workload)
            elif self._gone[workload.project] < GONE_PER_PASS:
                with self._parts.item("Workload", ("delete", workload.metadata.uid)):
                    await self._delete(workload)
        return owned

    async def _delete(self, workload: Workload) -> None:
        self._gone[workload.project] += 1
        await self._store.delete(
            Workload, workload.name, workload.project, resource_version=workload.metadata.resource_version
        )
        _log.info("engine removed", workload=workload.name, project=workload.project)

    async def _endpoint(
        self,
        endpoint: Endpoint,
        models: dict[tuple[str | None, str], _FoundModel],
        owned: dict[str, list[Workload]],
        wanted: _WantedByModel,
        reports: _ReportsByModel,
    ) -> Fault | None:
        """Returns why its engines are not as it says; what runs already is looked after all the same."""
        existing, before = owned.get(endpoint.metadata.uid, []), endpoint.status.model_copy(deep=True)
        found = _find_model(endpoint, models, endpoint.spec.model)
        trouble, fault = _trouble_of("spec.model", endpoint.spec.model, found), None
        name = endpoint.spec.canary.model if endpoint.spec.canary is not None else ""
        canary = _find_model(endpoint, models, name)
        canary_trouble = _trouble_of("spec.canary.model", name, canary)
        if found is not None and trouble is None:
            key, generation = ("roll out", endpoint.metadata.uid), endpoint.metadata.generation
            if self._parts.may_try(key, generation):
                with self._parts.item("Endpoint", key, generation):
                    usable = canary[0] if canary is not None and canary_trouble is None else None
                    trouble = await self._roll_out(endpoint, found[0], usable, existing)
            fault = self._parts.fault_of(key)
            trouble = (fault.reason, fault.message) if fault else trouble
        else:  # nobody could take the place of what was to leave
            await self._stay(existing)
        engines = self._wanted_engines.known(endpoint)
        endpoint.status.model_project = (found[0].project or "") if found else ""
        mine = [one for one in wanted[endpoint.model_key] if one[0].may_be_on(endpoint)]
        replicas, seen = [], []
        for workload in sorted(existing, key=lambda w: w.name):
            role = engine_role(workload)
            if role == "canary":  # adapters are those of the stable side's Model
                replicas.append(replica_of(workload))
                self._complete.add((workload.metadata.uid, workload.status.attempt))
                continue
            replica, report = await self._replica(endpoint, workload, mine)
            replica.outdated = _is_outdated(workload, engines.get(role))
            replicas.append(replica)
            reports[endpoint.model_key].append(report)
            seen.append(report)
        assign_duties(endpoint, replicas)
        too_little = await self._too_little(endpoint, found, replicas)
        now_ms = self._clock.now_ms()
        fill_status(endpoint, found, replicas, seen, trouble, canary_trouble, now_ms, too_little)
        if endpoint.status != before:
            await write_status(self._store, endpoint, before, "Ready")
        return fault

    async def _too_little(
        self, endpoint: Endpoint, found: _FoundModel | None, replicas: Sequence[Replica]
    ) -> str:
        """Why no devices of the pool can hold its engines; who answers is held by some. Waits for nothing."""
        if self._memory is None or found is None or any(one.ready for one in replicas):
            return ""
        return await self._memory.why_too_little(endpoint, found[0], wait_seconds=0)

    async def _roll_out(
        self, endpoint: Endpoint, model: Model, canary: Model | None, existing: list[Workload]
    ) -> tuple[str, str] | None:
        """Make, replace and remove workloads (``existing`` follows along); a trouble when a name is taken.

        What a project wants beyond ``NEW_PER_PASS`` is made in the passes that follow, each right after the
        one before, and what it has beyond ``GONE_PER_PASS`` too many is removed in the same way, so that
        thousands of replicas hold up neither others' endpoints nor the scheduler.
        """
        try:
            engines = self._wanted_engines.of(endpoint, model, canary)
        except (InvalidInput, ValueError):
            await self._stay(existing)
            raise
        roles = by_role(endpoint, existing, engines)
        role_of = {workload.name: role for role, some in roles.items() for workload in some}
        wanted = await self._draining.wanted_names(
            endpoint,
            roles,
            lambda one: _is_outdated(one, engines.get(role_of[one.name])),
            lambda one: (one.metadata.uid, one.status.attempt) in self._complete,
        )
        plan = plan_pass(wanted, roles, engines)
        most = GONE_PER_PASS - self._gone[endpoint.project] - len(plan.at_once)
        gone = await self._draining.those_that_may_go(plan.when_idle, max(0, most))
        by_name = {workload.name: workload for workload in existing}
        for workload in (*plan.at_once, *gone):
            await self._delete(workload)
            existing.remove(workload)
            await self._tell_replaced(endpoint, workload, engines.get(role_of.get(workload.name, "")))
        await self._stay(one for name, one in by_name.items() if name not in plan.leaving)
        there = {workload.name for workload in existing}
        for name in (*(name for name in plan.again if name not in there), *plan.create):
            if self._made[endpoint.project] >= NEW_PER_PASS:
                break
            taken = await self._store.find(Workload, name, endpoint.project)
            if taken is not None and wanted[name] == "canary":
                _log.warning(
                    "the name of a canary's engine is taken", workload=name, project=endpoint.project
                )
                continue
            if taken is not None:
                return (
                    "NameTaken",
                    f"a Workload {name} is there that this Endpoint did not make; rename one",
                )
            self._made[endpoint.project] += 1
            existing.append((await self._store.apply(engines[wanted[name]].named(name))).resource)
            _log.info("engine requested", workload=name, project=endpoint.project)
        for name in [name for name in by_name if name in wanted and name not in plan.leaving]:
            await self._change_in_place(by_name[name], engines[wanted[name]])
        return None

    async def _tell_replaced(
        self, endpoint: Endpoint, workload: Workload, engine: WantedEngine | None
    ) -> None:
        """An event of an engine that leaves because its Endpoint wants another."""
        why = engine.difference(workload) if engine is not None else ""
        if not why:
            return
        message = f"{workload.name} was stopped, because {why} (generation {endpoint.metadata.generation})"
        now_ms, uid = self._clock.now_ms(), workload.metadata.uid
        await self._store.record(event_of(endpoint, "info", "EngineReplaced", message, now_ms, uid))

    async def _stay(self, workloads: Iterable[Workload]) -> None:
        """What was to leave serves on."""
        for workload in workloads:
            await self._draining.stay(workload)

    async def _change_in_place(self, workload: Workload, engine: WantedEngine) -> None:
        """Queue, priority and labels may change while an engine runs."""
        if engine.is_same(workload) or engine.is_other_process(workload):
            return
        wanted = engine.named(workload.name)
        wanted.metadata.resource_version = workload.metadata.resource_version
        await self._store.apply(wanted)

    async def _replica(
        self, endpoint: Endpoint, workload: Workload, adapters: Sequence[_Wanted]
    ) -> tuple[Replica, ReplicaReport]:
        """The replica with the adapters that it holds after this pass."""
        replica = replica_of(workload)
        engine = endpoint.spec.engine
        if not replica.ready:
            return replica, ReplicaReport(endpoint, replica, None)
        held: Held | None = None
        loadable = [w for a, w in adapters if engine.max_adapters and a.spec.rank <= engine.max_adapter_rank]
        with self._parts.item("Engine", ("engine", workload.metadata.uid)):
            held = await self._sync.sync(
                (workload.metadata.uid, workload.status.attempt),
                replica.url,
                loadable,
                unload="--lora-modules" not in engine.args,
            )
            replica.adapters = held.names
            if all(held.is_settled(one) for one in loadable):
                self._complete.add((workload.metadata.uid, workload.status.attempt))
        return replica, ReplicaReport(endpoint, replica, held)

    async def _all_wanted(self, adapters: Sequence[Adapter]) -> _WantedByModel:
        """An adapter of which cannot be told where it lies is none that an engine can be given, nor is one
        whose files are gone."""
        found: list[_Wanted] = []
        for adapter in adapters:
            with self._parts.item("Adapter", ("wanted", adapter.metadata.uid), adapter.metadata.generation):
                found.append((adapter, self._wanted(adapter)))
        self._files_gone = await self._adapter_files.gone({one.path for _, one in found})
        by_model: _WantedByModel = defaultdict(list)
        for adapter, one in found:
            if one.path not in self._files_gone:
                by_model[adapter.model_key].append((adapter, one))
        return by_model

    def _wanted(self, adapter: Adapter) -> WantedAdapter:
        path = local_path(adapter.spec.path, self._settings.home)
        return WantedAdapter(adapter.key, adapter.spec.served_name, str(path or adapter.spec.path))

    async def _adapter(self, adapter: Adapter, reports: _ReportsByModel) -> Fault | None:
        mine = [report for report in reports[adapter.model_key] if adapter.may_be_on(report.endpoint)]
        wanted = self._wanted(adapter)
        gone = wanted.path in self._files_gone
        report = report_gone(adapter) if gone else report_adapter(adapter, wanted, mine)
        status, generation = adapter.status, adapter.metadata.generation
        was = status.model_copy(deep=True)
        before = status.replicas, status.message, status.observed_generation
        now = report.replicas, report.message, generation
        status.replicas, status.message, status.observed_generation = now
        changed = status.set_condition(
            "Served",
            report.served,
            report.reason,
            report.message,
            now_ms=self._clock.now_ms(),
            generation=generation,
        )
        if changed or now != before:
            await write_status(self._store, adapter, was, "Served")
        return None


async def _all(works: Iterable[Awaitable[object]]) -> None:
    """Do them at the same time, all to their end. Raises what the first of those that failed raised."""
    for outcome in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _find_model(
    endpoint: Endpoint, models: dict[tuple[str | None, str], _FoundModel], name: str
) -> _FoundModel | None:
    """The Model of the endpoint's own project, or else the shared one of that name."""
    own = models.get((endpoint.project, name))
    shared = (found for (_, other), found in models.items() if other == name and found[0].spec.shared)
    return own or next(shared, None)


def _is_outdated(workload: Workload, wanted: WantedEngine | None) -> bool:
    return wanted is not None and wanted.is_other_process(workload)


def _trouble_of(path: str, name: str, found: _FoundModel | None) -> tuple[str, str] | None:
    """Why no engine can be started: reason and message. What runs already goes on running."""
    if found is None:
        return (
            "ModelNotFound",
            f"{path}: there is no Model {name!r} in this project, and no shared one",
        )
    files = found[1]
    return None if files.usable else (files.reason, f"Model {name}: {files.message}")
