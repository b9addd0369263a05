"""Whether engines of an Endpoint can be held by any devices of the pool, before the first is started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from common.clock import Clock
from common.errors import InvalidInput
from common.resources import Endpoint, Model
from common.resources.engines import RoleSpec
from common.resources.scaling import EngineRole
from common.resources.serving import PAIR
from common.units import format_bytes
from inference.core.performance.device_figures import Layout
from inference.core.performance.memory import USABLE, Need, least_need
from inference.core.performance.model_shape import ModelShape, read_shape
from inference.device_table import FRESH_SECONDS, WAIT_SECONDS, DeviceRow, DeviceTable

ConfigOf = Callable[[Model], Mapping[str, Any]]
"""The ``config.json`` of a Model. Raises ``InvalidInput`` where it is not found or cannot be read."""
MAX_SHAPES = 1000
_GATED = ("silu", "swish", "swiglu")
"""Activations of which it is known that the network has three matrices; else two are counted."""
_DECIDES_MEMORY = frozenset(
    f"--{name}"
    for name in (
        *("config", "cpu-offload-gb", "cpu-offload-params", "data-parallel-size", "dtype"),
        *("enable-expert-parallel", "gpu-memory-utilization", "hf-config-path", "hf-overrides"),
        *("kv-cache-dtype", "kv-cache-memory-bytes", "load-format", "max-model-len", "model"),
        *("model-loader-extra-config", "num-gpu-blocks-override", "offload-backend", "runner", "task"),
        *("convert", "pipeline-parallel-size", "quantization", "quantization-config"),
        *("decode-context-parallel-size", "prefill-context-parallel-size", "tensor-parallel-size"),
    )
) | {"-dp", "-ep", "-pp", "-q", "-tp", "-dcp", "-pcp"}
"""Arguments of vLLM with which weights and caches are other than the Model and the Endpoint say."""


class EngineMemory:
    """Says only what is sure: weights and one sequence of the longest context, without all else that engines
    take, against all that they may use of the largest devices."""

    def __init__(self, devices: DeviceTable, config_of: ConfigOf, clock: Clock) -> None:
        self._devices, self._config_of, self._clock = devices, config_of, clock
        self._shapes: dict[tuple[str, str | None], tuple[float, ModelShape | None]] = {}

    async def why_too_little(
        self, endpoint: Endpoint, model: Model, wait_seconds: float = WAIT_SECONDS
    ) -> str:
        """Why engines of a role cannot be held by any devices that it may have; empty where they can, where
        the pool has none of these, or where it is not known. A canary's are not looked at."""
        roles = {name: role for name, role in endpoint.roles.items() if name != "canary"}
        judged = {name: role for name, role in roles.items() if not _decides_itself(endpoint, role)}
        rows = await self._devices.rows(wait_seconds) if judged else ()
        if not any(row.suits(role.devices) for row in rows for role in judged.values()):
            return ""
        shape = await self._shape(model)
        if shape is None:
            return ""
        tokens = 0 if model.spec.tasks == ["embeddings"] else _longest(endpoint, shape)
        told = (_why(endpoint, name, role, shape, rows, tokens) for name, role in judged.items())
        return next(filter(None, told), "")

    async def _shape(self, model: Model) -> ModelShape | None:
        """As its configuration says; None where there is none, or it is not understood."""
        key, now = (model.spec.source, model.project), self._clock.monotonic_seconds()
        known = self._shapes.get(key)
        if known is None or now - known[0] >= FRESH_SECONDS:
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            known = now, await asyncio.to_thread(self._read, model)
            self._shapes[key] = known
        return known[1]

    def _read(self, model: Model) -> ModelShape | None:
        try:
            config = self._config_of(model)
            shape = read_shape(config)
        except InvalidInput:
            return None
        nested = config.get("text_config")
        inner = nested if isinstance(nested, dict) else {}
        activation = inner.get("hidden_act", config.get("hidden_act"))
        return shape if activation in _GATED else replace(shape, gated=False)


def _decides_itself(endpoint: Endpoint, role: RoleSpec) -> bool:
    return any(_flag(word) in _DECIDES_MEMORY for word in (*endpoint.spec.engine.args, *role.args))


def _flag(word: str) -> str:
    """As vLLM reads it: with hyphens, without a value or the name of a field."""
    name = word.partition("=")[0].partition(".")[0]
    return name.replace("_", "-") if name.startswith("--") else name


def _longest(endpoint: Endpoint, shape: ModelShape) -> int:
    """Tokens for which an engine must have room before it begins; 0 = not known."""
    return endpoint.spec.engine.max_context_tokens or shape.context_tokens or 0


def _why(
    endpoint: Endpoint,
    name: EngineRole,
    role: RoleSpec,
    shape: ModelShape,
    rows: Sequence[DeviceRow],
    tokens: int,
) -> str:
    """Why engines of the role are on no devices of the table; empty where some hold them."""
    nearest: tuple[float, DeviceRow, Need] | None = None
    for row in rows:
        if not row.suits(role.devices):
            continue
        layout = _layout(endpoint, role, row)
        if layout is None:
            return ""
        cache = 0 if row.vendor == "cpu" else tokens  # there the setting engine.cpu_kv_cache_gib decides
        need = least_need(shape, layout, cache)
        missing = need.bytes - usable_bytes(row)
        if missing <= 0:
            return ""
        if nearest is None or missing < nearest[0]:
            nearest = missing, row, need
    if nearest is None:
        return ""
    path = f"spec.{name}." if name in PAIR else "spec."
    return _told(path, *nearest[1:], tokens)


def usable_bytes(row: DeviceRow) -> float:
    """Of the largest device, for an engine; of a CPU's all memory."""
    return row.memory_bytes if row.vendor == "cpu" else row.memory_bytes * USABLE


def _layout(endpoint: Endpoint, role: RoleSpec, row: DeviceRow) -> Layout | None:
    """How an engine is spread where it gets most of these devices; None where it asks for none. The CPU of a
    node is one device, by however many slots of it."""
    devices, nodes = role.devices, role.nodes
    is_open = devices.equivalence is not None or (endpoint.spec.mode == "auto" and devices.count == 1)
    count = row.most_on_node if is_open else devices.count
    if row.vendor == "cpu":
        count = min(count, 1)
    if count < 1:
        return None
    stages = endpoint.spec.engine.pipeline_stages or nodes
    return Layout(max(1, count * nodes // stages), stages)


def _told(path: str, row: DeviceRow, need: Need, tokens: int) -> str:
    """For people: what does not fit where, and what helps."""
    usable = format_bytes(int(usable_bytes(row)))
    weights, cache = format_bytes(int(need.weights)), format_bytes(int(need.cache))
    where = f"the {usable} that engines use of {row.device_class}"
    if need.weights > usable_bytes(row) or not need.cache:
        why = f"{weights} of weights on each device do not fit into {where}"
        return f"{path}devices: {why}; ask for more of them (count) or larger ones"
    why = f"{weights} of weights and {cache} of KV cache for {tokens} tokens do not fit into {where}"
    return f"{path}devices: {why}; ask for more or larger ones, or lower spec.engine.maxContextTokens"
