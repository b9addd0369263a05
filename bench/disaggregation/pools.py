"""The pools and the model of the bench, in figures of the device catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from common.resources.pool import DeviceRequest
from control.planning.answers import OfferedDevices
from control.planning.supplies import offered_stock, supplies_for
from inference.adapters.aiconfigurator import MeasuredKernels
from inference.core.mode.fleet import EngineGroup, Fleet
from inference.core.mode.rehearsal import Stage
from inference.core.performance.device_figures import Layout
from inference.core.performance.model_shape import read_shape
from inference.core.performance.roofline import Roofline
from scheduler.catalogue import load_catalogue

LLAMA_8B: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
"""``config.json`` of Llama-3.1-8B, as far as it matters."""

POOLS: Mapping[str, Mapping[str, int]] = {
    "h100-h200": {"nvidia/H100-SXM": 4, "nvidia/H200-SXM": 4},
    "a100-l40s": {"nvidia/A100-SXM4-80GB": 4, "nvidia/L40S": 4},
    "ascend-910b": {"ascend/910B1": 8},
}


CONNECTOR = "NixlConnector"


@dataclass(frozen=True)
class Pool:
    """Engines on all devices, all of which do both, and what their passes take."""

    name: str
    fleet: Fleet
    stage: Stage


def pool_of(name: str, config: Mapping[str, Any], tensor: int = 1) -> Pool:
    """Raises ``InvalidInput`` for a model that is not understood. Caches are handed over by all devices, over
    the network of their hosts where the catalogue knows of no way of their own."""
    offered = [
        OfferedDevices(device_class=device_class, count=count, per_node=count)
        for device_class, count in POOLS[name].items()
    ]
    supplies, _ = supplies_for(
        {"": DeviceRequest()}, offered_stock(offered, load_catalogue()), lambda _: None
    )
    layout = Layout(tensor)
    groups = [EngineGroup(replace(one, connector=CONNECTOR), layout, one.engines(layout)) for one in supplies]
    fleet = Fleet(tuple(groups))
    return Pool(name, fleet, Stage(read_shape(config), (MeasuredKernels(config), Roofline())))
