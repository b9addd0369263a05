"""Step times from a device's FLOPS, bandwidth and links: where nothing was measured."""

from __future__ import annotations

from dataclasses import dataclass

from inference.core.performance.device_figures import DeviceFigures
from inference.core.performance.model_shape import ModelShape
from inference.core.performance.quantization import Dtype
from inference.core.performance.steps import Engine, NotKnown

GIGA = 1e9


@dataclass(frozen=True)
class Efficiency:
    """What real kernels reach of a device's figures, and what each pass costs beside.

    ``matrices`` and ``experts`` of FLOPS, ``weights`` and ``cache`` of bandwidth when they are read;
    ``packed`` of either where weights are quantised; ``link`` of direct links, ``host_link`` of the host's
    bus; ``reduce_seconds`` for each sum over links, ``layer_seconds`` for what a layer has beside.

    Fitted to the step times of vLLM kernels that ``aiconfigurator-core`` 0.12 has of A100, H100, H200, B200
    and L40S (``docs/design/performance-model.md`` has the fit and its error); taken for all others.
    """

    matrices: float = 0.73
    experts: float = 0.32
    weights: float = 0.86
    packed: float = 0.61
    attention: float = 0.67
    cache: float = 0.86
    link: float = 0.36
    host_link: float = 0.10
    reduce_seconds: float = 6.5e-6
    layer_seconds: float = 56e-6


@dataclass(frozen=True)
class _Work:
    """One pass: tokens that are computed, sequences that get a token, and what attention does."""

    tokens: float
    sequences: float
    pairs: float = 0.0
    cache_bytes: float = 0.0
    cache_pairs: float = 0.0


class Roofline:
    """Implements ``PerformanceSource`` for every device whose FLOPS and bandwidth are known."""

    def __init__(self, efficiency: Efficiency = Efficiency()) -> None:
        self._efficiency = efficiency

    def steps(self, engine: Engine) -> RooflineSteps:
        if engine.device.missing:
            raise NotKnown(f"the device catalogue has no {engine.device.missing} of {engine.device.name}")
        return RooflineSteps(engine, self._efficiency)


class RooflineSteps:
    """Implements ``StepTimes``: each part of a pass takes as long as its computing or its reading, whichever
    is longer."""

    source = "roofline"

    def __init__(self, engine: Engine, efficiency: Efficiency) -> None:
        self._shape: ModelShape = engine.shape
        self._device: DeviceFigures = engine.device
        self._shards, self._stages = engine.layout.tensor, engine.layout.pipeline
        self._efficiency = efficiency

    def prefill_ms(self, prompts: int, prompt_tokens: int) -> float:
        pairs = prompts * self._shape.pairs(prompt_tokens)
        return self._ms(_Work(prompts * prompt_tokens, prompts, pairs))

    def decode_ms(self, sequences: int, context_tokens: int) -> float:
        return self._ms(self._decode(sequences, context_tokens))

    def mixed_ms(self, prefill_tokens: int, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        decode = self._decode(sequences, context_tokens)
        read = prefill_tokens / prompt_tokens
        return self._ms(
            _Work(
                decode.tokens + prefill_tokens,
                decode.sequences + read,
                read * self._shape.pairs(prompt_tokens),
                decode.cache_bytes,
                decode.cache_pairs,
            )
        )

    def _decode(self, sequences: int, context_tokens: int) -> _Work:
        cache = sequences * self._shape.kv_bytes(context_tokens, self._shards)
        return _Work(sequences, sequences, 0.0, cache, float(sequences) * context_tokens)

    def _ms(self, work: _Work) -> float:
        beside = self._shape.layers * self._efficiency.layer_seconds
        return 1e3 * (self._matrices(work) + self._attention(work) + self._links(work) + beside)

    def _matrices(self, work: _Work) -> float:
        shape, formats = self._shape, self._shape.formats
        seconds = self._product(
            shape.attention_weights, formats.attention_bytes, formats.attention, work.tokens
        )
        seconds += self._product(shape.dense_weights, formats.linear_bytes, formats.linear, work.tokens)
        seconds += self._product(shape.head_weights, formats.plain_bytes, formats.plain, work.sequences)
        mixed = shape.experts
        if mixed is None:
            return seconds
        share = mixed.per_token / mixed.count
        touched = mixed.count * (1.0 - (1.0 - share) ** max(1.0, work.tokens))
        computed = work.tokens * mixed.per_token / touched
        return seconds + self._product(
            shape.expert_weights * touched,
            formats.expert_bytes,
            formats.experts,
            computed,
            self._efficiency.experts,
        )

    def _product(
        self, weights: float, size: float, dtype: Dtype, tokens: float, part: float | None = None
    ) -> float:
        """Seconds to multiply so many tokens with these weights, spread over the shards. ``part``: what is
        reached of the FLOPS where it is less than of plain matrices."""
        reach = self._efficiency
        packed = reach.packed if size < self._shape.formats.plain_bytes else 1.0
        computing = 2.0 * weights * tokens / (self._device.flops(dtype) * (part or reach.matrices))
        reading = weights * size / (self._bandwidth * reach.weights)
        return max(computing, reading) / (packed * self._shards)

    def _attention(self, work: _Work) -> float:
        shape, reach = self._shape, self._efficiency
        flops = self._device.flops(shape.formats.plain)
        latent = shape.latent
        width = 2 * shape.head_dim if latent is None else latent.nope + latent.rope + latent.value
        prompts = 2.0 * shape.heads * width * work.pairs / (self._shards * flops * reach.attention)
        cached = 0.0
        if latent is not None:
            width = 2 * latent.kv_rank + latent.rope
            computed = 2.0 * shape.layers * shape.heads * width * work.cache_pairs
            cached = computed / (self._shards * flops * reach.attention)
        return prompts + max(cached, work.cache_bytes / (self._bandwidth * reach.cache))

    def _links(self, work: _Work) -> float:
        """Two sums over all shards in each layer, and a hand-over between stages."""
        shape, reach = self._shape, self._efficiency
        bytes_each = work.tokens * shape.hidden * shape.formats.plain_bytes
        one_way = max(self._device.link_gbytes_per_second, 1.0) * GIGA / 2
        one_way *= reach.host_link if self._device.over_host else reach.link
        seconds = 0.0
        if self._shards > 1:
            ring = 2.0 * (self._shards - 1) / self._shards
            seconds += 2 * shape.layers * (reach.reduce_seconds + ring * bytes_each / one_way)
        return seconds + (self._stages - 1) * (reach.reduce_seconds + bytes_each / one_way)

    @property
    def _bandwidth(self) -> float:
        return self._device.bandwidth_gbytes_per_second * GIGA
