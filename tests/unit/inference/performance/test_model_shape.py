"""What of a model's config.json decides its speed and memory: read as it is meant, or refused by name."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput
from inference.core.performance.model_shape import read_shape
from tests.fixtures.performance_scene import LLAMA_8B, QWEN_32B, configs, shape


@pytest.mark.parametrize(
    ("model", "billions", "gigabytes", "kv_bytes"),
    [
        (LLAMA_8B, 8.03, 16.1, 131_072),
        (QWEN_32B, 32.8, 65.5, 262_144),
        ("Qwen/Qwen3-32B-FP8", 32.8, 34.3, 262_144),
        ("Qwen/Qwen3-30B-A3B", 30.5, 61.1, 98_304),
        ("deepseek-ai/DeepSeek-V3", 671.0, 673, 70_272),
        ("openai/gpt-oss-120b", 116.8, 65.0, 73_728),
    ],
)
def test_parameters_and_cache_of_known_models_are_theirs(
    model: str, billions: float, gigabytes: float, kv_bytes: int
) -> None:
    read = shape(model)
    assert read.parameters / 1e9 == pytest.approx(billions, rel=0.005)
    assert read.weight_bytes / 1e9 == pytest.approx(gigabytes, rel=0.005)
    assert read.kv_bytes(1) == kv_bytes


def test_cache_is_spread_over_devices_as_far_as_there_are_heads() -> None:
    dense, latent = shape(LLAMA_8B), shape("deepseek-ai/DeepSeek-V3")
    assert [dense.kv_bytes(8, shards) * shards for shards in (1, 8, 16)] == [
        8 * 131_072,
        8 * 131_072,
        16 * 131_072,
    ]
    assert latent.kv_bytes(8, 8) == latent.kv_bytes(8, 1)


def test_layers_with_a_window_stop_growing_at_it() -> None:
    windowed = shape("openai/gpt-oss-120b")
    assert (windowed.window, windowed.sliding_layers) == (128, 18)
    assert windowed.kv_bytes(1128) - windowed.kv_bytes(128) == 1000 * windowed.kv_bytes(1) / 2
    assert windowed.pairs(10_000) < 0.52 * shape(LLAMA_8B).pairs(10_000) * windowed.layers / 32


def test_the_language_part_of_a_model_that_sees_is_read() -> None:
    nested = {"architectures": ["X"], "text_config": configs()[LLAMA_8B]}
    assert read_shape(nested) == shape(LLAMA_8B)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"num_hidden_layers": 1001}, "num_hidden_layers"),
        ({"hidden_size": "4096"}, "hidden_size"),
        ({"head_dim": 0}, "head_dim"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"vocab_size": True}, "vocab_size"),
        ({"layer_types": ["linear_attention"]}, "layer_types"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"mamba_d_state": 16}, "mamba_d_state"),
        ({"torch_dtype": "float9"}, "torch_dtype"),
        ({"quantization_config": {"quant_method": "magic"}}, "quantization_config.quant_method"),
        ({"num_experts": 8, "num_experts_per_tok": 9}, "num_experts_per_tok"),
    ],
)
def test_what_is_missing_wrong_or_not_modelled_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_shape({**configs()[LLAMA_8B], **change})
    assert refused.value.param == f"config.{field}"
    assert field in refused.value.message


@pytest.mark.parametrize(
    ("quantisation", "weight_bytes", "dtype"),
    [
        ({"quant_method": "fp8"}, 1.0, "fp8"),
        ({"quant_method": "awq", "bits": 4}, 0.53, "bf16"),
        ({"quant_method": "gptq", "bits": 8}, 1.0, "bf16"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 1.0, "bf16"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 0.53, "fp4"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {
                        "weights": {"num_bits": 8, "type": "int"},
                        "input_activations": {"num_bits": 8},
                    }
                },
            },
            1.0,
            "int8",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}},
            },
            0.53,
            "bf16",
        ),
    ],
)
def test_quantised_weights_have_their_size_and_format(
    quantisation: dict[str, Any], weight_bytes: float, dtype: str
) -> None:
    formats = read_shape({**configs()[LLAMA_8B], "quantization_config": quantisation}).formats
    assert (formats.linear_bytes, formats.linear, formats.plain_bytes) == (weight_bytes, dtype, 2.0)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**12),
    st.text(max_size=5),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.sampled_from(["quant_method", "bits", "config_groups"]), st.integers(), max_size=2),
)


@given(st.sampled_from(sorted(configs())), st.data())
def test_any_config_is_understood_or_refused(model: str, data: st.DataObject) -> None:
    config = dict(configs()[model])
    names = st.sampled_from(sorted(config))
    for name in data.draw(st.lists(names, max_size=4)):
        config[name] = data.draw(VALUES)
    read = None
    with contextlib.suppress(InvalidInput):
        read = read_shape(config)
    if read is not None:
        assert read.parameters > 0
        assert read.weight_bytes > 0
        assert read.kv_bytes(100, 4) <= read.kv_bytes(200, 4)
