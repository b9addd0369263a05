"""What fits on the devices of an engine: weights, what a pass needs, and the KV cache of its sequences."""

from __future__ import annotations

from dataclasses import dataclass

from common.units import GIB, format_bytes
from inference.core.performance.device_figures import Layout
from inference.core.performance.model_shape import ModelShape
from inference.core.performance.steps import Engine

USABLE = 0.92
"""vLLM's ``--gpu-memory-utilization`` where it is not set."""
BESIDE_BYTES = 3.5 * GIB
"""Of each device, for contexts, graphs, activations of a pass and buffers of links: what
``aiconfigurator-core`` sets aside for vLLM."""


@dataclass(frozen=True)
class Need:
    """Bytes of each device that weights and caches take at the very least."""

    weights: float
    cache: float

    @property
    def bytes(self) -> float:
        return self.weights + self.cache


def least_need(shape: ModelShape, layout: Layout, tokens: int) -> Need:
    """Of the weights and of one sequence of so many tokens, which vLLM must have room for before it begins;
    without all else. It keeps weights of four bytes in two."""
    kept = 0.5 if shape.formats.plain == "fp32" else 1.0
    cache = shape.kv_bytes(tokens, layout.tensor) / layout.pipeline
    return Need(kept * shape.weight_bytes / layout.devices, kept * cache)


def room_bytes(engine: Engine) -> float:
    """What each device of the engine has for the KV cache; below 0 where not even the weights fit."""
    weights = engine.shape.weight_bytes / engine.layout.devices
    return engine.device.memory_bytes * USABLE - BESIDE_BYTES - weights


def most_sequences(engine: Engine, tokens: int) -> int:
    """How many sequences of so many tokens the engine holds at once, in each of its pipeline's stages."""
    each = engine.shape.kv_bytes(tokens, engine.layout.tensor)
    return max(0, int(room_bytes(engine) / each))


def why_too_small(engine: Engine, tokens: int) -> str:
    """Why not one sequence fits."""
    weights = format_bytes(int(engine.shape.weight_bytes / engine.layout.devices))
    has = format_bytes(int(engine.device.memory_bytes * USABLE))
    if room_bytes(engine) <= 0:
        return f"{weights} of weights on each device do not fit into the {has} that engines use of it"
    cache = format_bytes(int(engine.shape.kv_bytes(tokens, engine.layout.tensor)))
    return f"{weights} of weights and {cache} of KV cache of {tokens} tokens do not fit into {has}"
