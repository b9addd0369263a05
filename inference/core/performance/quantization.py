"""In which formats a model's weights and cache are kept and multiplied, read from its ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from common.errors import InvalidInput

Dtype = Literal["fp32", "bf16", "fp16", "fp8", "int8", "fp4"]
_PLAIN: dict[str, tuple[Dtype, float]] = {
    "bfloat16": ("bf16", 2.0),
    "float16": ("fp16", 2.0),
    "float32": ("fp32", 4.0),
}
FOUR_BITS = 0.53
"""Bytes of a weight of four bits with the scale that it shares with its block."""


@dataclass(frozen=True)
class Formats:
    """Bytes of one number, of attention, other linear layers, experts, what is never quantised (embeddings,
    the head) and the KV cache; and the formats in which matrices are multiplied."""

    attention_bytes: float = 2.0
    linear_bytes: float = 2.0
    expert_bytes: float = 2.0
    plain_bytes: float = 2.0
    kv_bytes: float = 2.0
    plain: Dtype = "bf16"
    linear: Dtype = "bf16"
    attention: Dtype = "bf16"
    experts: Dtype = "bf16"


def read_formats(config: Mapping[str, Any]) -> Formats:
    """Raises ``InvalidInput`` naming the field of a format that is not known."""
    name = config.get("torch_dtype") or config.get("dtype") or "bfloat16"
    known = _PLAIN.get(str(name).removeprefix("torch."))
    if known is None:
        raise _unknown("torch_dtype", name, ", ".join(_PLAIN))
    dtype, size = known
    plain = Formats(size, size, size, size, size, dtype, dtype, dtype, dtype)
    quantisation = config.get("quantization_config")
    if not isinstance(quantisation, Mapping) or not quantisation:
        return plain
    bits, multiplied, only_experts = _quantised(quantisation, dtype)
    size = FOUR_BITS if bits == 4 else bits / 8
    made = replace(plain, expert_bytes=size, experts=multiplied)
    if only_experts:
        return made
    return replace(made, attention_bytes=size, linear_bytes=size, linear=multiplied, attention=multiplied)


def _quantised(content: Mapping[str, Any], plain: Dtype) -> tuple[int, Dtype, bool]:
    """Bits of a weight, the format in which it is multiplied, and whether only experts are quantised."""
    method = str(content.get("quant_method", "")).lower()
    if method in ("fp8", "fbgemm_fp8"):
        return 8, "fp8", False
    if method == "mxfp4":
        return 4, plain, True
    if method in ("awq", "gptq", "gptq_marlin", "awq_marlin"):
        return (8 if content.get("bits") == 8 else 4), plain, False
    if method == "bitsandbytes":
        return (8 if content.get("load_in_8bit") else 4), plain, False
    if method in ("modelopt", "modelopt_fp4"):
        return _of_algorithm(str(content.get("quant_algo", "")).upper())
    if method == "compressed-tensors":
        return _of_groups(content, plain)
    raise _unknown(
        "quantization_config.quant_method",
        method,
        "fp8, mxfp4, awq, gptq, bitsandbytes, modelopt, compressed-tensors",
    )


def _of_algorithm(name: str) -> tuple[int, Dtype, bool]:
    if name == "FP8":
        return 8, "fp8", False
    if name == "NVFP4":
        return 4, "fp4", False
    raise _unknown("quantization_config.quant_algo", name, "FP8, NVFP4")


def _of_groups(content: Mapping[str, Any], plain: Dtype) -> tuple[int, Dtype, bool]:
    """Of ``compressed-tensors``: the first group stands for all."""
    groups = content.get("config_groups")
    group = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = group.get("weights") if isinstance(group, Mapping) else None
    bits = weights.get("num_bits") if isinstance(weights, Mapping) else None
    if bits not in (4, 8) or not isinstance(group, Mapping) or not isinstance(weights, Mapping):
        raise _unknown("quantization_config.config_groups", bits, "weights of 4 or 8 bits")
    if not isinstance(group.get("input_activations"), Mapping):
        return bits, plain, False
    if bits == 4:
        return 4, "fp4", False
    return 8, ("fp8" if weights.get("type") == "float" else "int8"), False


def _unknown(field: str, value: object, known: str) -> InvalidInput:
    return InvalidInput(
        f"config.json: {field}: {str(value)[:40]!r} is not known; known are {known}", param=f"config.{field}"
    )
