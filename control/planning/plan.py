"""Plans of Endpoints: devices, prices and the model's shape brought together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from billing.core.compute_units import ComputeUnits
from billing.core.events import UsageEvent
from billing.core.rating import PriceBook, rate
from billing.store.books import book_of
from common.clock import Clock
from common.errors import InvalidInput
from common.private import at_home
from common.resources import Endpoint, Model, Node, Price, Queue
from common.resources.objectives import TrafficProfile
from common.resources.serving import model_identity
from common.settings import Settings
from common.store.port import Store
from control.planning.answers import (
    EndpointPlan,
    OfferedDevices,
    PlanLeg,
    PlanOption,
    PlanRefusal,
    PlanRole,
)
from control.planning.supplies import (
    Stock,
    of_size,
    offered_stock,
    pool_stock,
    requests_of,
    supplies_for,
)
from inference.adapters.aiconfigurator import MeasuredKernels
from inference.core.mode.rehearsal import Stage
from inference.core.performance.choice import Choice, choose
from inference.core.performance.measured import Measured, Measurement
from inference.core.performance.model_shape import ModelShape, read_shape
from inference.core.performance.options import Option, Refusal, Slo
from inference.core.performance.roofline import Roofline
from inference.core.performance.serving import Traffic
from inference.core.performance.sizing import Sizing
from inference.core.performance.steps import Engine
from inference.core.performance.supply import Supply
from inference.measurements import read_measurements
from inference.model_config import find_config
from scheduler.catalogue import load_catalogue
from scheduler.core.model.catalogue import Catalogue
from scheduler.translate.views import request_view, tolerated_view

MILLION = 1_000_000
MOST_OPTIONS = 20
MOST_NAMED = 3


class Planner:
    """One plan is worked out at a time, in a thread; nothing is written."""

    def __init__(self, store: Store, settings: Settings, clock: Clock) -> None:
        self._store, self._settings, self._clock = store, settings, clock
        self._lock = asyncio.Lock()

    async def stock(self, endpoint: Endpoint, offered: Sequence[OfferedDevices] | None) -> list[Stock]:
        """The devices that are named, or those of the pool's nodes that the Endpoint may be on."""
        if offered is not None:
            return offered_stock(offered, self._catalogue)
        queue = await self._store.find(Queue, endpoint.spec.queue)
        tolerated = tolerated_view(queue.spec.tolerations if queue else ())
        requests = {
            role: request_view(devices, tolerated) for role, devices in requests_of(endpoint.spec).items()
        }
        return pool_stock(await self._store.list(Node), requests, self._catalogue)

    async def supplies(self, endpoint: Endpoint) -> tuple[list[Supply], list[Refusal]]:
        """Those devices of the pool that the Endpoint allows and of which figures are known, without prices;
        and why the others are left out."""
        stock = await self.stock(endpoint, None)
        return supplies_for(requests_of(endpoint.spec), stock, lambda _: None)

    async def stage(self, model: Model) -> Stage:
        """On which requests of a Model are rehearsed. Raises ``InvalidInput`` where its configuration is not
        found or not understood."""
        config = await asyncio.to_thread(self.config_of, model)
        return Stage(read_shape(config), (MeasuredKernels(config), Roofline()))

    async def plan(
        self,
        endpoint: Endpoint,
        model: Model,
        tenant: str,
        stock: Sequence[Stock],
        config: Mapping[str, Any] | None = None,
    ) -> EndpointPlan:
        """What would serve the Endpoint's load. ``config``: of its Model, where control finds none.

        Raises ``InvalidInput`` where the Model's configuration is not found or not understood.
        """
        books = [book_of(price) for price in await self._store.list(Price)]
        async with self._lock:
            return await asyncio.to_thread(self._plan, endpoint, model, tenant, stock, books, config)

    @cached_property
    def _catalogue(self) -> Catalogue:
        file = self._settings.scheduler.catalogue_file
        return load_catalogue(Path(file) if file else None)

    @property
    def compute_units(self) -> ComputeUnits:
        """Device time in hours of the reference device, by what the catalogue says."""
        return ComputeUnits(self._settings.costs.reference_device, self._tflops_of)

    def _tflops_of(self, device_class: str) -> Fraction | None:
        vendor, _, model = device_class.partition("/")
        spec = self._catalogue.find(vendor.lower(), model)
        return Fraction(str(spec.tflops_of("bf16"))) if spec else None

    def _plan(
        self,
        endpoint: Endpoint,
        model: Model,
        tenant: str,
        stock: Sequence[Stock],
        books: Sequence[PriceBook],
        given: Mapping[str, Any] | None,
    ) -> EndpointPlan:
        config = given if given is not None else self.config_of(model)
        shape = read_shape(config)
        profile = _profile(endpoint, shape)
        objective = endpoint.spec.slo
        traffic = Traffic(profile.prompt_tokens, profile.output_tokens, profile.requests_per_second)
        slo = Slo(objective.ttft_milliseconds, objective.inter_token_milliseconds)
        prices = _Prices(books, tenant, endpoint.project or "", self._clock.now_ms())
        supplies, refused = supplies_for(requests_of(endpoint.spec), stock, prices.of)
        if endpoint.spec.mode == "auto":
            supplies, others = of_size(supplies, endpoint.spec.devices.count)
            refused += others
        sources = (MeasuredKernels(config), Roofline())
        measured = Measured(self._measurements(model))
        options, more = Sizing(shape, supplies, sources, traffic, slo, measured).options()
        choice = choose(options)
        return EndpointPlan(
            project=endpoint.project or "",
            name=endpoint.name,
            model=model_identity((model.project, model.name)),
            parameters=shape.parameters,
            weight_bytes=int(shape.weight_bytes),
            kv_bytes_per_token=int(shape.kv_bytes(1)),
            slo=objective,
            traffic=profile,
            traffic_assumed=endpoint.spec.traffic is None,
            roles=_roles(endpoint, supplies),
            options=[_told(option) for option in choice.options[:MOST_OPTIONS]],
            taken=choice.taken,
            reasons=[
                *_not_planned(endpoint),
                *_reasons(choice, supplies),
                *_provenance(choice, shape, measured),
            ],
            refusals=[_refusal(one) for one in (*refused, *more)],
        )

    def config_of(self, model: Model) -> Mapping[str, Any]:
        """Its ``config.json``. Raises ``InvalidInput`` where it is not found or cannot be read."""
        return find_config(model.spec.source, self._settings.home, model.project)

    def _measurements(self, model: Model) -> list[Measurement]:
        """What was measured of engines of this Model."""
        file = self._settings.engine.measurements_file
        if not file:
            return []
        names = {model_identity((model.project, model.name)), model.spec.source}
        return [one for one in read_measurements(at_home(file)) if one.model in names]


def _provenance(choice: Choice, shape: ModelShape, measured: Measured) -> list[str]:
    """By whose measurements the figures of the advised engines are corrected."""
    if choice.taken is None:
        return []
    told = []
    for leg in choice.options[choice.taken].legs:
        found = measured.of(Engine(shape, leg.supply.figures, leg.layout))
        if found:
            said = "; ".join(dict.fromkeys(one.by for one in found[:MOST_NAMED]))
            engine = f"{leg.supply.device_class} {leg.layout}"
            told.append(f"{engine} is corrected by {len(found)} measurements: {said}")
    return list(dict.fromkeys(told))


class _Prices:
    """Prices of device time for a project, as the ledger would rate it now."""

    def __init__(self, books: Sequence[PriceBook], tenant: str, project: str, now_ms: int) -> None:
        self._books, self._tenant, self._project, self._now_ms = books, tenant, project, now_ms

    def of(self, device_class: str) -> int | None:
        """Micro-credits for a million device-seconds, before any volume; None where no book has a price."""
        event = UsageEvent(
            id="plan",
            kind="device",
            tenant=self._tenant,
            project=self._project,
            started_ms=self._now_ms,
            ended_ms=self._now_ms,
            quantities={"device_seconds": MILLION},
            device_class=device_class,
        )
        line = rate(event, self._books)[0]
        return line.price.item.microcredits_per_million if line.price else None


def _profile(endpoint: Endpoint, shape: ModelShape) -> TrafficProfile:
    """The Endpoint's, or a usual one that the model's context holds. Raises ``InvalidInput`` where a sequence
    of the Endpoint's own is longer than that."""
    profile = endpoint.spec.traffic or TrafficProfile()
    limits = (endpoint.spec.engine.max_context_tokens, shape.context_tokens)
    most = min((limit for limit in limits if limit is not None), default=None)
    if most is None or profile.prompt_tokens + profile.output_tokens <= most:
        return profile
    if endpoint.spec.traffic is None and most > 1:
        prompt = max(1, most * profile.prompt_tokens // (profile.prompt_tokens + profile.output_tokens))
        return TrafficProfile(prompt_tokens=prompt, output_tokens=max(1, most - prompt))
    lengths = f"{profile.prompt_tokens} + {profile.output_tokens} tokens"
    raise InvalidInput(
        f"spec.traffic: {lengths} are more than the {most} of the model; lower promptTokens or outputTokens",
        param="spec.traffic",
    )


def _not_planned(endpoint: Endpoint) -> list[str]:
    """What the Endpoint says that no option has."""
    told = []
    for name, role in endpoint.spec.roles.items():
        if name == "canary":
            told.append(f"no option has the engines of spec.canary: {role.most} more")
        elif role.nodes > 1:
            path = f"spec.{name}.nodes" if name else "spec.nodes"
            told.append(f"each option has its engines on one node, not on {role.nodes} as {path} says")
    return told


def _roles(endpoint: Endpoint, supplies: Sequence[Supply]) -> list[PlanRole]:
    roles: tuple[Literal["prefill", "decode"], ...] = ("prefill", "decode")
    return [
        PlanRole(role=role, device_classes=[one.device_class for one in supplies if one.devices_for(role)])
        for role in roles
        if role in endpoint.spec.roles
    ]


def _reasons(choice: Choice, supplies: Sequence[Supply]) -> list[str]:
    reasons = list(choice.reasons)
    unpriced = sorted(s.device_class for s in supplies if s.microcredits_per_million_seconds is None)
    if unpriced and choice.options:
        reasons.append(f"no price book in force has device_seconds of {', '.join(unpriced)}")
    return reasons


def _told(option: Option) -> PlanOption:
    return PlanOption(
        mode=option.mode,
        legs=[
            PlanLeg(
                role=leg.role,
                device_class=leg.supply.device_class,
                engines=leg.engines,
                tensor_parallel=leg.layout.tensor,
                pipeline_parallel=leg.layout.pipeline,
                devices=leg.devices,
                batch=leg.point.batch,
                source=leg.point.source,
            )
            for leg in option.legs
        ],
        devices=option.devices,
        ttft_milliseconds=round(option.ttft_ms, 1),
        inter_token_milliseconds=round(option.itl_ms, 2),
        capacity_requests_per_second=round(option.capacity, 3),
        output_tokens_per_second_per_device=round(option.tokens_per_second_per_device, 1),
        microcredits_per_million_output_tokens=option.microcredits_per_million_output_tokens,
    )


def _refusal(refusal: Refusal) -> PlanRefusal:
    mode = "replicated" if refusal.mode == "single" else refusal.mode
    return PlanRefusal(device_class=refusal.device_class, mode=mode, message=refusal.why)
