"""What the performance model says of drawn models, devices and loads is what was approved."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import InvalidInput
from inference.core.performance.choice import choose
from inference.core.performance.device_figures import DeviceFigures, Layout
from inference.core.performance.measured import Measured, Measurement
from inference.core.performance.memory import most_sequences, room_bytes, why_too_small
from inference.core.performance.model_shape import ModelShape, read_shape
from inference.core.performance.options import Leg, Option, Slo
from inference.core.performance.roofline import Roofline
from inference.core.performance.serving import (
    Point,
    Traffic,
    decode_point,
    mixed_point,
    prefill_point,
)
from inference.core.performance.sizing import BATCHES, Sizing
from inference.core.performance.steps import Engine, NotKnown
from inference.core.performance.supply import Supply, hold_both, layouts
from tests.fixtures import approving as approved
from tests.fixtures.performance_scene import configs, figures, shape

DEVICES = ("A100-SXM4-80GB", "H100-SXM", "H200-SXM", "B200", "L40S", "T4", "910B3", "MI300X")
MODELS = tuple(sorted(configs()))
SIZES = (None, 0, 1, 2, 7, 64, 1000, 1001, 10**9, 10**9 + 1, -1, True, 2.5, "8", "")
FIELDS = (
    *("num_hidden_layers", "n_layer", "hidden_size", "n_embd", "num_attention_heads", "n_head"),
    *("num_key_value_heads", "head_dim", "vocab_size", "intermediate_size", "n_inner"),
    *("moe_intermediate_size", "max_position_embeddings", "sliding_window", "kv_lora_rank", "q_lora_rank"),
    *("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "num_experts", "n_routed_experts"),
    *("num_local_experts", "num_experts_per_tok", "experts_per_token", "moe_topk", "n_shared_experts"),
    *("decoder_sparse_step", "moe_layer_freq", "interleave_moe_layer_step", "first_k_dense_replace"),
    "shared_expert_intermediate_size",
)
OTHERS: dict[str, tuple[Any, ...]] = {
    "tie_word_embeddings": (True, False),
    "hidden_act": ("gelu_new", "relu", "silu", None),
    "activation_function": ("gelu_new", "relu"),
    "use_sliding_window": (True, False, None),
    "layer_types": (["full_attention"] * 3, ["sliding_attention", "full_attention"], ["mamba"], "full", []),
    "is_encoder_decoder": (True, False),
    "mamba_d_state": (0, 16),
    "hybrid_override_pattern": ("", "M-M*"),
    "ssm_cfg": ({}, {"layer": 1}),
    "attn_layer_period": (0, 8),
    "text_config": ({"num_hidden_layers": 3}, {}, "none"),
    "torch_dtype": ("bfloat16", "torch.float16", "float32", "float8", None, 16),
    "dtype": ("float32", "float16"),
}
GROUP = {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8}}
GROUPS: tuple[Any, ...] = (
    None,
    {},
    {"g": None},
    {"g": {}},
    {"g": GROUP, "h": {}},
    {"g": {**GROUP, "weights": {"num_bits": 8, "type": "float"}}},
    {"g": {**GROUP, "weights": {"num_bits": 4, "type": "float"}}},
    {"g": {**GROUP, "weights": {"num_bits": 6}}},
    {"g": {"weights": {"num_bits": 4}}},
    {"g": {"weights": {"num_bits": 8}, "input_activations": None}},
)
QUANTISED: tuple[Any, ...] = (
    *(
        {"quant_method": name}
        for name in ("fp8", "fbgemm_fp8", "FP8", "mxfp4", "awq", "bitsandbytes", "", "x")
    ),
    *(
        {"quant_method": name, "bits": n}
        for name in ("awq", "gptq", "gptq_marlin", "awq_marlin")
        for n in (4, 8)
    ),
    {"quant_method": "bitsandbytes", "load_in_8bit": True},
    *(
        {"quant_method": name, "quant_algo": algorithm}
        for name in ("modelopt", "modelopt_fp4")
        for algorithm in ("FP8", "nvfp4", "INT4", None)
    ),
    *({"quant_method": "compressed-tensors", "config_groups": groups} for groups in GROUPS),
    None,
    {},
    "fp8",
)


def _config(rng: random.Random) -> dict[str, Any]:
    """One of the known ones with some fields as nobody wrote them, or less of it."""
    config = dict(configs()[rng.choice(MODELS)])
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        kind = rng.random()
        if kind < 0.4:
            config[rng.choice(FIELDS)] = rng.choice(SIZES)
        elif kind < 0.7:
            name = rng.choice(tuple(OTHERS))
            config[name] = rng.choice(OTHERS[name])
        elif kind < 0.85:
            config["quantization_config"] = rng.choice(QUANTISED)
        else:
            config.pop(rng.choice(tuple(config)))
    return config


def _shape(rng: random.Random) -> str:
    """What is read of a config, and all that follows from it."""
    try:
        read = read_shape(_config(rng) if rng.random() < 0.99 else rng.choice(([], None, "x")))
    except InvalidInput as error:
        return f"{error.param}: {error}"
    told = [read, read.attention_weights, read.dense_weights, read.expert_weights, read.head_weights]
    told += [read.parameters, read.weight_bytes]
    told += [read.kv_bytes(tokens, shards) for tokens in (1, 129, 5000) for shards in (1, 2, 16)]
    return approved.told(told + [read.pairs(tokens) for tokens in (1, 128, 129, 5000)])


def _device(rng: random.Random) -> DeviceFigures:
    """Of the catalogue, or one that has not all formats or figures."""
    known = figures(rng.choice(DEVICES))
    if rng.random() < 0.7:
        return known
    formats = rng.sample(("fp32", "fp16", "bf16", "fp8", "int8", "fp4"), rng.randrange(5))
    return DeviceFigures(
        "x/drawn",
        "drawn",
        {name: 100.0 + 10 * at for at, name in enumerate(formats)},
        rng.choice((0, known.memory_bytes)),
        rng.choice((0.0, known.bandwidth_gbytes_per_second)),
        rng.choice((0.0, 0.5, 300.0)),
        rng.random() < 0.5,
    )


def _traffic(rng: random.Random) -> Traffic:
    lengths = rng.choice((1, 3, 100, 128, 1000, 5000, 20_000)), rng.choice((1, 2, 50, 333, 2000))
    return Traffic(*lengths, rng.choice((None, None, 0.1, 3.0, 40.0)))


def _odd(rng: random.Random) -> ModelShape:
    """A known model whose config can be read, changed a little."""
    while True:
        try:
            return read_shape(_config(rng))
        except InvalidInput:
            continue


def _engine(rng: random.Random) -> Engine:
    layout = Layout(rng.choice((1, 2, 4, 8)), rng.choice((1, 1, 2, 4)))
    read = shape(rng.choice(MODELS)) if rng.random() < 0.6 else _odd(rng)
    return Engine(read, _device(rng), layout)


def _passes(rng: random.Random) -> str:
    """How long passes of an engine take, what clients see of it, and what fits on it."""
    engine, traffic = _engine(rng), _traffic(rng)
    fits = [room_bytes(engine), most_sequences(engine, traffic.tokens), why_too_small(engine, traffic.tokens)]
    formats = [engine.device.flops(name) for name in ("fp4", "fp8", "int8", "bf16", "fp16", "fp32")]
    told: list[Any] = [str(engine.layout), engine.layout.devices, engine.device.missing, formats, fits]
    try:
        steps = Roofline().steps(engine)
    except NotKnown as error:
        return approved.told([*told, str(error)])
    batch, prompt = rng.choice(BATCHES), traffic.prompt_tokens
    told += [steps.prefill_ms(batch, prompt), steps.decode_ms(batch, traffic.middle_tokens), steps.source]
    told.append(steps.mixed_ms(rng.choice((1, prompt, 9000)), prompt, batch, traffic.tokens))
    points = [ask(engine, steps, batch, traffic) for ask in (mixed_point, prefill_point, decode_point)]
    measured = Measured([_measurement(rng, engine, batch, traffic) for _ in range(rng.randrange(4))])
    corrected = [measured.correct(engine, steps, point, traffic) for point in points]
    return approved.told([*told, points, corrected])


def _measurement(rng: random.Random, engine: Engine, batch: int, traffic: Traffic) -> Measurement:
    """Of this engine as a rule, near the load that is asked for."""
    return Measurement(
        "m",
        rng.choice((engine.device.name, engine.device.device_class.upper(), engine.device.name, "other")),
        engine.layout if rng.random() < 0.8 else Layout(16),
        batch * rng.choice((0.4, 1, 1, 1.5, 3.9, 4.0)),
        max(1, int(traffic.prompt_tokens * rng.choice((0.5, 1, 1, 2)))),
        max(1, int(traffic.output_tokens * rng.choice((0.5, 1, 1, 2)))),
        rng.choice((50.0, 500.0)),
        rng.choice((5.0, 50.0)),
        "drawn",
    )


def _supply(rng: random.Random) -> Supply:
    name = rng.choice(DEVICES)
    vendor = "ascend" if name == "910B3" else "amd" if name == "MI300X" else "nvidia"
    return Supply(
        figures(name) if rng.random() < 0.9 else _device(rng),
        vendor,
        tuple(rng.choice((0, 1, 2, 4, 8, 8, 8, 16)) for _ in range(rng.randrange(1, 5))),
        rng.choice(((), (), (1, 2, 8))),
        "NixlConnector" if rng.random() < 0.8 else "",
        rng.choice((None, 10**6, 10**9)),
    )


def _placing(rng: random.Random) -> str:
    """How engines can be spread over the nodes of a pool, and which numbers of them fit."""
    pool = _supply(rng)
    found = layouts(pool, _odd(rng))
    demands = [(rng.randrange(5), rng.choice((1, 2, 3, 4, 8))) for _ in range(rng.randrange(3))]
    held = hold_both(pool.nodes, demands), hold_both(pool.sizes, demands)
    counts = [(str(one), pool.engines(one)) for one in found]
    return approved.told([pool.devices, dict(pool.sizes), counts, demands, held])


def _leg(leg: Leg) -> str:
    who = f"{leg.role} {leg.engines} x {leg.layout} of {leg.supply.device_class} ({leg.devices})"
    return f"{who} {approved.told(leg.requests_per_second)}/s {approved.told(leg.point)}"


def _option(option: Option) -> str:
    figures_of = [option.ttft_ms, option.itl_ms, option.capacity, option.served]
    figures_of += [option.tokens_per_second_per_device, option.microcredits_per_million_output_tokens or 0]
    legs = "; ".join(map(_leg, option.legs))
    return f"{option.mode} ({option.devices}) {approved.told(figures_of)} {option.sources}: {legs}"


def _plan(rng: random.Random) -> str:
    """What serves a load, why the rest does not, and what is advised."""
    read, traffic = shape(rng.choice(MODELS)), _traffic(rng)
    pool = [_supply(rng) for _ in range(rng.choice((1, 1, 2, 3)))]
    slo = Slo(rng.choice((None, 300.0, 2000.0)), rng.choice((None, 20.0, 60.0)))
    engine = Engine(read, pool[0].figures, Layout())
    measured = Measured([_measurement(rng, engine, 8, traffic)]) if rng.random() < 0.3 else None
    found, refused = Sizing(
        read, pool, [_Rarely(rng.random() < 0.3), Roofline()], traffic, slo, measured
    ).options()
    choice = choose(found)
    lines = [*map(_option, choice.options), f"taken {choice.taken}", *choice.reasons]
    return "\n".join([*lines, *(approved.told(one) for one in refused)])


class _Rarely:
    """A source that knows engines of one device only, and these not always."""

    def __init__(self, knows: bool) -> None:
        self._knows = knows

    def steps(self, engine: Engine) -> Any:
        if not self._knows or engine.layout.devices > 1:
            raise NotKnown("no such engine was measured")
        return _Measured()


class _Measured:
    source = "a bench"

    def prefill_ms(self, prompts: int, prompt_tokens: int) -> float:
        return 5.0 + prompts * prompt_tokens / 50

    def decode_ms(self, sequences: int, context_tokens: int) -> float:
        if sequences > 64:
            raise NotKnown("so many were not measured")
        return 8.0 + sequences / 10

    def mixed_ms(self, prefill_tokens: int, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        return 9.0 + prefill_tokens / 40 + sequences / 10


def _missed(rng: random.Random) -> str:
    """What of a limit does not hold, in words."""
    point = Point(1, rng.choice((1000.0, 1000.4, 1234.5)), rng.choice((20.0, 20.04, 33.33)), 1.0, "x")
    limits = rng.choice((None, 1000.0, 1234.5)), rng.choice((None, 20.0, 33.33))
    return f"{limits} {point.ttft_ms} {point.itl_ms}: {Slo(*limits).missed_by(point)}"


RULES: dict[str, tuple[Callable[[random.Random], str], int]] = {
    "models": (_shape, 4000),
    "passes": (_passes, 700),
    "placing": (_placing, 400),
    "limits": (_missed, 100),
    "plans": (_plan, 60),
}


@pytest.mark.parametrize("name", RULES)
def test_the_performance_model_says_what_was_approved(name: str) -> None:
    ask, draws = RULES[name]
    answers = [ask(random.Random(seed)) for seed in range(draws)]
    approved.check(Path(__file__).with_name("performance.txt"), {name: approved.kept(answers, 4)})
