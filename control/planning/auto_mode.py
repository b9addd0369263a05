"""The loop behind mode ``auto``: which devices serve an Endpoint, and which of its engines only read prompts.

It only writes ``status.auto``; the endpoint controller makes engines and routes of it. What takes time is
worked out in a thread, one Endpoint at a time, so that no pass of a controller waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from common.clock import Clock
from common.errors import ComputilityError, Conflict, InvalidInput, NotFound
from common.guard import Guard, is_everybodys
from common.ids import derived_id
from common.loop import LoopHealth, in_turns, run_every
from common.resources import Endpoint, Model, Project
from common.resources.auto_mode import MAX_REASONS, AutoStatus, Readers, leaves_size_open
from common.resources.objectives import MAX_CONTEXT_TOKENS, TrafficProfile
from common.store.kept import KeptList
from common.store.port import Event, StatusWrite, Store
from common.telemetry import get_logger
from control.planning.answers import EndpointPlan, PlanOption
from control.planning.kept_supplies import KeptSupplies
from control.planning.objectives import objectives, slo_of
from control.planning.plan import Planner
from control.planning.served_traffic import ServedTraffic
from inference.autoscaling.autoscaler import Autoscaler
from inference.core.mode.decide import Rules, Standing, Verdict
from inference.core.mode.fleet import EngineGroup, Fleet
from inference.core.mode.pace import LOOK_SECONDS, Pace
from inference.core.mode.pilot import FEWEST_REQUESTS, look
from inference.core.mode.rehearsal import Stage
from inference.core.performance.device_figures import Layout
from inference.core.performance.supply import Supply

PASS_SECONDS = 5.0
"""After which a pass ends: half of the time is left to others, and what is new does not wait for all."""
WRITE_TRIES = 3
TELL_SECONDS = 600.0
"""Between two writings of figures where nothing is changed."""
RULES = Rules()
_LOOKED = "seen: "
NO_FIGURES = "so nothing can be foretold: replicas of what spec.devices allows serve it"

_log = get_logger(__name__)


@dataclass
class _Watch:
    """What is remembered of an Endpoint between two looks."""

    standing: Standing = field(default_factory=Standing)
    pace: Pace = field(default_factory=Pace)
    turn_seconds: float = -math.inf
    stage: Stage | None = None
    stage_of: str = ""
    planned_with: frozenset[str] = frozenset()
    told_seconds: float = -math.inf


class AutoMode:
    """``traffic`` has what was served, ``autoscaler`` how much is on its way; None = that is not known. In
    memory is only since when something better has been there."""

    def __init__(
        self,
        store: Store,
        planner: Planner,
        traffic: ServedTraffic,
        clock: Clock,
        autoscaler: Autoscaler | None = None,
    ) -> None:
        self._autoscaler = autoscaler
        self._store, self._planner, self._traffic, self._clock = store, planner, traffic, clock
        self._endpoints = KeptList(store, Endpoint)
        self._guard = Guard("auto-mode", clock)
        self._watches: dict[str, _Watch] = {}
        self._supplies = KeptSupplies(planner, clock)
        self._shared_models: dict[str, Model] | None = None

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Look every ``LOOK_SECONDS`` until ``stop`` is set."""
        health = health or LoopHealth("auto-mode", self._clock)
        await run_every(self.step, stop, LOOK_SECONDS, health)

    async def step(self) -> None:
        """One look at all Endpoints of mode ``auto``: first at those that wait for their devices, then at
        those that were not looked at for the longest time, as many as ``PASS_SECONDS`` allow, but one."""
        endpoints = await self._endpoints.now()
        mine = [one.copy_deep() for one in endpoints if one.spec.mode == "auto"]  # to write to
        self._traffic.follow(endpoints)
        if self._autoscaler is not None:
            for endpoint in mine:
                self._traffic.seen(endpoint, self._autoscaler.watch_of(endpoint))
        self._shared_models = None
        uids = {endpoint.metadata.uid for endpoint in mine}
        for uid in self._watches.keys() - uids:
            del self._watches[uid]
        self._guard.forget_gone()
        clock = asyncio.get_running_loop().time
        until, looked = clock() + PASS_SECONDS, False
        async for endpoint in in_turns(sorted(mine, key=self._turn)):
            is_decided = _is_decided(endpoint)
            if is_decided and looked and clock() >= until:
                break
            looked |= is_decided
            key, generation = ("look", endpoint.metadata.uid), endpoint.metadata.generation
            if self._guard.may_try(key, generation):
                with self._guard.item("Endpoint", key, generation):
                    await self._look(endpoint)

    def _turn(self, endpoint: Endpoint) -> tuple[bool, float]:
        watch = self._watches.get(endpoint.metadata.uid)
        return _is_decided(endpoint), watch.turn_seconds if watch is not None else -math.inf

    async def _look(self, endpoint: Endpoint) -> None:
        model = await self._model_of(endpoint)
        if model is None:
            return
        auto = endpoint.status.auto
        watch = self._watches.setdefault(endpoint.metadata.uid, _Watch(Standing((), _changes(auto))))
        now = watch.turn_seconds = self._clock.monotonic_seconds()
        is_new = not _is_decided(endpoint) or (auto is not None and auto.planned_model != _version_of(model))
        supplies = await self._supplies.of(endpoint, afresh=is_new)
        classes = frozenset(one.device_class for one in supplies)
        appeared = auto is not None and not auto.device_class and classes - watch.planned_with
        if auto is None or is_new or appeared or _has_vanished(endpoint, auto, classes):
            supplies = supplies if is_new else await self._supplies.of(endpoint, afresh=True)
            watch.planned_with = frozenset(one.device_class for one in supplies)
            await self._write(endpoint, await self._chosen(endpoint, model, supplies))
            return
        fleet = _fleet(endpoint, auto, supplies)
        if fleet is None or not self._is_due(watch, endpoint, fleet):
            return
        verdict = await self._verdict(endpoint, watch, await self._stage_of(watch, model), fleet)
        watch.standing = verdict.standing
        if verdict.taken is not None or now - watch.told_seconds >= TELL_SECONDS:
            watch.told_seconds = now
            await self._write(endpoint, _changed(auto, verdict, self._clock.now_ms()))

    def _is_due(self, watch: _Watch, endpoint: Endpoint, fleet: Fleet) -> bool:
        """Whether there is something new to see: other engines, other traffic, or a change that waits."""
        now = self._clock.now_ms() / 1000
        if watch.pace.rests(now, watch.standing):
            return False
        return watch.pace.looks(now, fleet, self._traffic.log_of(endpoint).profile(now), watch.standing)

    async def _verdict(self, endpoint: Endpoint, watch: _Watch, stage: Stage, fleet: Fleet) -> Verdict:
        now = self._clock.now_ms() / 1000
        requests = self._traffic.log_of(endpoint).recent(now)
        return await asyncio.to_thread(
            look,
            stage,
            fleet,
            (),
            requests,
            watch.pace.profile,
            slo_of(endpoint),
            watch.standing,
            RULES,
            now,
        )

    async def _stage_of(self, watch: _Watch, model: Model) -> Stage:
        version = _version_of(model)
        if watch.stage is None or watch.stage_of != version:
            watch.stage = await self._planner.stage(model)
            watch.stage_of = version
        return watch.stage

    async def _chosen(self, endpoint: Endpoint, model: Model, supplies: Sequence[Supply]) -> AutoStatus:
        """The devices that the performance model advises; where it knows none, those of ``spec.devices``."""
        before, now_ms = endpoint.status.auto, self._clock.now_ms()
        plan, option, why = None, None, "no device of the pool has figures"
        try:
            plan, option = await self._advised(endpoint, model)
        except ComputilityError as error:
            if is_everybodys(error):
                raise
            why = error.message
        if plan is not None and option is None and plan.refusals:
            why = f"{plan.refusals[0].device_class}: {plan.refusals[0].message}"
        generation = endpoint.metadata.generation
        since = before.since_ms if before is not None else now_ms
        kept = before.changes_ms if before is not None else []
        if option is None or plan is None:
            return AutoStatus(
                reasons=[f"{why}, {NO_FIGURES}"],
                since_ms=since,
                changes_ms=kept,
                planned_generation=generation,
                planned_model=_version_of(model),
            )
        leg = option.legs[0]
        supply = next((one for one in supplies if one.device_class == leg.device_class), None)
        able = supply is not None and supply.transfers and _may_hand_over(endpoint, model)
        same = able and before is not None and before.device_class == leg.device_class
        return AutoStatus(
            device_class=leg.device_class,
            devices_per_engine=leg.tensor_parallel if leaves_size_open(endpoint.spec.devices) else 0,
            hands_over=able,
            readers=before.readers if before is not None and same else [],
            min_prompt_tokens=before.min_prompt_tokens if before is not None and same else 0,
            mode=before.mode if before is not None and same else "replicated",
            reasons=_told_devices(endpoint, plan, option),
            since_ms=since if same else now_ms,
            changes_ms=kept,
            planned_generation=generation,
            planned_model=_version_of(model),
        )

    async def _advised(self, endpoint: Endpoint, model: Model) -> tuple[EndpointPlan, PlanOption | None]:
        """What is planned for the lengths that it says, else for those that were measured, where the Model
        holds these; and the option of it that mode auto can take."""
        measured = None if endpoint.spec.traffic else self._measured(endpoint)
        if measured is not None:
            with contextlib.suppress(InvalidInput):
                return await self._advised_for(endpoint, model, measured)
        return await self._advised_for(endpoint, model, endpoint.spec.traffic)

    async def _advised_for(
        self, endpoint: Endpoint, model: Model, traffic: TrafficProfile | None
    ) -> tuple[EndpointPlan, PlanOption | None]:
        project = await self._store.find(Project, endpoint.project or "")
        tenant = project.spec.tenant if project else ""
        stock = await self._planner.stock(endpoint, None)
        for objective in objectives(endpoint):
            aimed = endpoint.copy_deep()
            aimed.spec.slo, aimed.spec.traffic = objective, traffic
            plan = await self._planner.plan(aimed, model, tenant, stock)
            option = _first_usable(plan.options)
            if option is not None:
                break
        return plan, option

    def _measured(self, endpoint: Endpoint) -> TrafficProfile | None:
        """The lengths of what it has served lately; None where that is too little to conclude from. How much
        comes is for the number of engines, and not for what each of them is."""
        profile = self._traffic.log_of(endpoint).profile(self._clock.now_ms() / 1000)
        if profile is None or profile.requests < FEWEST_REQUESTS:
            return None
        prompt, output = profile.prompt_tokens, profile.output_tokens
        if prompt + output > (endpoint.spec.engine.max_context_tokens or MAX_CONTEXT_TOKENS):
            return None
        return TrafficProfile(prompt_tokens=prompt, output_tokens=output)

    async def _model_of(self, endpoint: Endpoint) -> Model | None:
        """Of its own project, else the shared one of that name."""
        own = await self._store.find(Model, endpoint.spec.model, endpoint.project)
        if own is not None:
            return own
        if self._shared_models is None:
            shared = [one for one in await self._store.list(Model) if one.spec.shared]
            self._shared_models = {one.name: one for one in reversed(shared)}
        return self._shared_models.get(endpoint.spec.model)

    async def _write(self, endpoint: Endpoint, auto: AutoStatus) -> None:
        """The decision, with an event where something changes, in one transaction; not where the Endpoint is
        another by now, or says something else."""
        meant = endpoint.metadata.uid, endpoint.metadata.generation
        for _ in range(WRITE_TRIES):
            before = endpoint.status.auto
            endpoint.status.auto = auto
            events = [] if _same_choice(before, auto) else [_event(endpoint, auto)]
            (result,) = await self._store.set_statuses([StatusWrite(endpoint, tuple(events))])
            if isinstance(result, ComputilityError) and not isinstance(result, Conflict):
                raise result
            if not isinstance(result, Conflict):
                if events:
                    _log.info("auto", endpoint=endpoint.name, project=endpoint.project, why=events[0].message)
                return
            try:
                endpoint = await self._store.get(Endpoint, endpoint.name, endpoint.project)
            except NotFound:
                return
            if (endpoint.metadata.uid, endpoint.metadata.generation) != meant:
                return


def _is_decided(endpoint: Endpoint) -> bool:
    """Whether its devices were chosen as it is now."""
    auto = endpoint.status.auto
    return auto is not None and auto.planned_generation == endpoint.metadata.generation


def _version_of(model: Model) -> str:
    """Another one when anything is said differently about it."""
    return f"{model.metadata.uid} {model.metadata.generation}"


def _may_hand_over(endpoint: Endpoint, model: Model) -> bool:
    """Whether there is an answer to write, and each engine has all layers on each device."""
    return model.spec.tasks != ["embeddings"] and (endpoint.spec.engine.pipeline_stages or 1) == 1


def _first_usable(options: Sequence[PlanOption]) -> PlanOption | None:
    """The best of which all engines are equal: roles then need no start. Pipelines are not for auto."""
    for option in options:
        kinds = {(leg.device_class, leg.tensor_parallel) for leg in option.legs}
        if len(kinds) == 1 and all(leg.pipeline_parallel == 1 for leg in option.legs):
            return option
    return None


def _told_devices(endpoint: Endpoint, plan: EndpointPlan, option: PlanOption) -> list[str]:
    leg = option.legs[0]
    assumed = " (assumed)" if plan.traffic_assumed else "" if endpoint.spec.traffic else " (measured)"
    size = f"{leg.device_class}, {leg.tensor_parallel} of them an engine"
    slo = slo_of(endpoint)
    profile = plan.traffic
    ttft = f"TTFT {option.ttft_milliseconds:,.0f} ms"
    itl = f"{option.inter_token_milliseconds:,.1f} ms between tokens"
    rate = f"{option.capacity_requests_per_second:,.3g} requests/s"
    return [
        f"{size}: {ttft}, {itl}, {rate} as {option.mode} on {option.devices}",
        f"for {profile.prompt_tokens:,} prompt tokens and {profile.output_tokens:,} output tokens{assumed}",
        f"SLO: TTFT {slo.ttft_ms or 0:,.0f} ms, {slo.itl_ms or 0:,.0f} ms between tokens (0 = no limit)",
    ]


def _fleet(endpoint: Endpoint, auto: AutoStatus, supplies: Sequence[Supply]) -> Fleet | None:
    """The engines that answer now, with their duties; None where there is none, or one without figures."""
    by_class = {one.device_class: one for one in supplies}
    size = auto.devices_per_engine or max(1, endpoint.spec.devices.count)
    groups: dict[str, EngineGroup] = {}
    for replica in endpoint.status.replicas:
        if not replica.ready or replica.draining or replica.role:
            continue
        supply = by_class.get(replica.device_class)
        if supply is None:
            return None
        supply = replace(supply, connector=auto.connector)
        before = groups.get(replica.device_class, EngineGroup(supply, Layout(size), 0))
        readers = before.readers + (replica.duty == "prefill")
        groups[replica.device_class] = replace(before, engines=before.engines + 1, readers=readers)
    if not groups:
        return None
    fleet = Fleet(tuple(groups[name] for name in sorted(groups)))
    return replace(fleet, min_prompt_tokens=auto.min_prompt_tokens if fleet.readers else 0)


def _has_vanished(endpoint: Endpoint, auto: AutoStatus, classes: frozenset[str]) -> bool:
    """Whether none of the devices that were chosen takes work any more, while others do. Engines that run
    there, as on a node that is cordoned, go on."""
    if not classes or not auto.device_class or auto.device_class in classes:
        return False
    return not any(one.ready and one.device_class == auto.device_class for one in endpoint.status.replicas)


def _changes(auto: AutoStatus | None) -> tuple[tuple[float, bool], ...]:
    return tuple((at / 1000, False) for at in auto.changes_ms) if auto is not None else ()


def _changed(auto: AutoStatus, verdict: Verdict, now_ms: int) -> AutoStatus:
    """What the status says after a look."""
    devices = [one for one in auto.reasons if not one.startswith(_LOOKED)]
    reasons = [*devices, *(f"{_LOOKED}{reason}" for reason in verdict.reasons)][:MAX_REASONS]
    fleet = verdict.taken
    if fleet is None:
        return auto.model_copy(update={"reasons": reasons})
    readers = [Readers(device_class=g.device_class, engines=g.readers) for g in fleet.groups if g.readers]
    return auto.model_copy(
        update={
            "mode": fleet.mode,
            "readers": readers,
            "min_prompt_tokens": fleet.min_prompt_tokens,
            "reasons": reasons,
            "since_ms": now_ms,
            "changes_ms": [round(at * 1000) for at, _ in verdict.standing.changes],
        }
    )


def _same_choice(before: AutoStatus | None, after: AutoStatus) -> bool:
    if before is None:
        return False
    names = ("mode", "device_class", "devices_per_engine", "readers", "min_prompt_tokens")
    return all(getattr(before, name) == getattr(after, name) for name in names)


def _event(endpoint: Endpoint, auto: AutoStatus) -> Event:
    version = endpoint.metadata.resource_version
    return Event(
        id=derived_id("evt", endpoint.metadata.uid, "ModeDecided", version),
        time_ms=auto.since_ms,
        level="info",
        reason="ModeDecided",
        message=f"{auto.mode}: {'; '.join(auto.reasons)}"[:1000],
        kind="Endpoint",
        name=endpoint.name,
        project=endpoint.project,
        data={"mode": auto.mode, "deviceClass": auto.device_class},
    )
