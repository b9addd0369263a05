"""What of a model decides its speed and its memory, read from its ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import InvalidInput
from inference.core.performance.quantization import Formats, read_formats

MAX_WHOLE = 10**9
MAX_LAYERS = 1000
_FULL, _SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class LatentAttention:
    """Ranks and widths of multi-head latent attention (DeepSeek): the cache holds ``kv_rank + rope`` numbers
    of a token and layer, whatever the number of heads. ``query_rank`` 0 = queries are not compressed."""

    kv_rank: int
    query_rank: int
    nope: int
    rope: int
    value: int


@dataclass(frozen=True)
class Experts:
    """Experts of a mixture in each of ``layers``; ``shared_width`` is that of all shared experts together."""

    layers: int
    count: int
    per_token: int
    width: int
    shared_width: int = 0


@dataclass(frozen=True)
class ModelShape:
    """A decoder of ``layers`` layers; ``dense_width`` is the inner width of its feed-forward networks that
    are no mixture. ``window`` is how many tokens ``sliding_layers`` of the layers look back; 0 = all."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    dense_width: int
    formats: Formats
    tied_embeddings: bool = False
    gated: bool = True
    latent: LatentAttention | None = None
    experts: Experts | None = None
    window: int = 0
    sliding_layers: int = 0
    context_tokens: int | None = None

    @property
    def attention_weights(self) -> int:
        """Weights of the attention of all layers."""
        latent = self.latent
        if latent is None:
            per_layer = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
            return self.layers * per_layer
        queries = self.heads * (latent.nope + latent.rope)
        asks = latent.query_rank * (self.hidden + queries) if latent.query_rank else self.hidden * queries
        keys = self.hidden * (latent.kv_rank + latent.rope)
        keys += latent.kv_rank * self.heads * (latent.nope + latent.value)
        return self.layers * (asks + keys + self.heads * latent.value * self.hidden)

    @property
    def dense_weights(self) -> int:
        """Weights of feed-forward networks that every token passes: dense layers, shared experts, routers."""
        mixed = self.experts
        matrices = 3 if self.gated else 2
        if mixed is None:
            return self.layers * matrices * self.hidden * self.dense_width
        dense = (self.layers - mixed.layers) * matrices * self.hidden * self.dense_width
        shared = mixed.layers * matrices * self.hidden * mixed.shared_width
        return dense + shared + mixed.layers * self.hidden * mixed.count

    @property
    def expert_weights(self) -> int:
        """Weights of one expert of each layer that has experts."""
        mixed = self.experts
        return 0 if mixed is None else mixed.layers * (3 if self.gated else 2) * self.hidden * mixed.width

    @property
    def head_weights(self) -> int:
        """Weights of the output head."""
        return self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """All weights."""
        heads = self.head_weights * (1 if self.tied_embeddings else 2)
        experts = self.expert_weights * (self.experts.count if self.experts else 0)
        return self.attention_weights + self.dense_weights + experts + heads

    @property
    def weight_bytes(self) -> float:
        """Memory of all weights, before they are spread over devices."""
        formats = self.formats
        experts = self.expert_weights * (self.experts.count if self.experts else 0)
        heads = self.head_weights * (1 if self.tied_embeddings else 2)
        linear = self.attention_weights * formats.attention_bytes + self.dense_weights * formats.linear_bytes
        return linear + experts * formats.expert_bytes + heads * formats.plain_bytes

    def kv_bytes(self, tokens: int, shards: int = 1) -> float:
        """KV cache of a sequence of so many tokens on one of ``shards`` devices that share its layers.

        Heads are spread over devices as far as there are heads; what latent attention keeps lies on each.
        """
        if self.latent is not None:
            per_layer = float(self.latent.kv_rank + self.latent.rope)
        else:
            per_layer = 2.0 * self.head_dim * max(1.0, self.kv_heads / shards)
        full = self.layers - self.sliding_layers
        seen = full * tokens + self.sliding_layers * min(tokens, self.window or tokens)
        return seen * per_layer * self.formats.kv_bytes

    def pairs(self, prompt_tokens: int) -> float:
        """Pairs of tokens that attend to each other while a prompt is read, over all layers."""
        full = prompt_tokens * prompt_tokens / 2
        window = self.window or prompt_tokens
        if prompt_tokens <= window:
            return self.layers * full
        sliding = window * window / 2 + (prompt_tokens - window) * window
        return (self.layers - self.sliding_layers) * full + self.sliding_layers * sliding


def read_shape(config: object) -> ModelShape:
    """The shape of the model with this ``config.json``; of one that sees and hears, its language model.

    Raises ``InvalidInput`` naming the field that is missing, wrong, or of a kind that is not modelled.
    """
    if not isinstance(config, Mapping):
        raise InvalidInput("config.json: must be a mapping", param="config")
    nested = config.get("text_config")
    merged = {**config, **nested} if isinstance(nested, Mapping) else dict(config)
    fields = _Fields(merged)
    _refuse_what_is_not_modelled(merged)
    layers, hidden = fields.whole("num_hidden_layers", "n_layer"), fields.whole("hidden_size", "n_embd")
    heads = fields.whole("num_attention_heads", "n_head")
    if layers > MAX_LAYERS:
        raise _wrong("num_hidden_layers", f"at most {MAX_LAYERS} layers are modelled")
    window, sliding = _window(fields, layers)
    return ModelShape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=fields.whole("num_key_value_heads", default=heads),
        head_dim=fields.whole("head_dim", default=max(1, hidden // heads)),
        vocabulary=fields.whole("vocab_size"),
        dense_width=fields.whole("intermediate_size", "n_inner", "moe_intermediate_size", default=4 * hidden),
        formats=read_formats(merged),
        tied_embeddings=bool(merged.get("tie_word_embeddings", False)),
        gated=merged.get("hidden_act", merged.get("activation_function")) not in ("gelu_new", "relu"),
        latent=_latent(fields),
        experts=_experts(fields, layers),
        window=window,
        sliding_layers=sliding,
        context_tokens=fields.whole("max_position_embeddings", default=0) or None,
    )


class _Fields:
    """Whole numbers of a configuration, each under the first of several names that it has."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content

    def whole(self, *names: str, default: int | None = None) -> int:
        """Raises ``InvalidInput`` where it is not there and has no default, or is no whole number."""
        for name in names:
            value = self.content.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_WHOLE:
                raise _wrong(name, f"must be a whole number up to {MAX_WHOLE}")
            if value == 0 and default != 0:
                raise _wrong(name, "must be greater than 0")
            return value
        if default is None:
            raise _wrong(names[0], "required to know the model's speed, but missing")
        return default


def _wrong(name: str, message: str) -> InvalidInput:
    return InvalidInput(f"config.json: {name}: {message}", param=f"config.{name}")


def _refuse_what_is_not_modelled(config: Mapping[str, Any]) -> None:
    kinds = config.get("layer_types")
    for kind in kinds if isinstance(kinds, list) else ():
        if kind not in (_FULL, _SLIDING):
            raise _wrong("layer_types", f"layers of {str(kind)[:40]} are not modelled")
    for name in ("hybrid_override_pattern", "ssm_cfg", "mamba_d_state", "attn_layer_period"):
        if config.get(name):
            raise _wrong(name, "layers with a state in place of attention are not modelled")
    if config.get("is_encoder_decoder"):
        raise _wrong("is_encoder_decoder", "only decoders are modelled")


def _window(fields: _Fields, layers: int) -> tuple[int, int]:
    """The window, and how many layers look back only so far."""
    window = fields.whole("sliding_window", default=0)
    kinds = fields.content.get("layer_types")
    if not window or fields.content.get("use_sliding_window") is False:
        return 0, 0
    if isinstance(kinds, list):
        return window, min(layers, kinds.count(_SLIDING))
    return window, layers


def _latent(fields: _Fields) -> LatentAttention | None:
    rank = fields.whole("kv_lora_rank", default=0)
    if not rank:
        return None
    return LatentAttention(
        kv_rank=rank,
        query_rank=fields.whole("q_lora_rank", default=0),
        nope=fields.whole("qk_nope_head_dim"),
        rope=fields.whole("qk_rope_head_dim"),
        value=fields.whole("v_head_dim"),
    )


def _experts(fields: _Fields, layers: int) -> Experts | None:
    count = fields.whole("num_experts", "n_routed_experts", "num_local_experts", default=0)
    if count < 2:
        return None
    per_token = fields.whole("num_experts_per_tok", "experts_per_token", "moe_topk", default=1)
    if not 1 <= per_token <= count:
        raise _wrong("num_experts_per_tok", f"must be 1 to {count}, the number of experts")
    width = fields.whole("moe_intermediate_size", "intermediate_size")
    shared = fields.whole("n_shared_experts", default=0) * width
    every = fields.whole("decoder_sparse_step", "moe_layer_freq", "interleave_moe_layer_step", default=1)
    first_dense = min(layers, fields.whole("first_k_dense_replace", default=0))
    return Experts(
        layers=(layers - first_dense) // max(1, every),
        count=count,
        per_token=per_token,
        width=width,
        shared_width=fields.whole("shared_expert_intermediate_size", default=0) or shared,
    )
