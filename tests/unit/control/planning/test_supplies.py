"""Devices of the pool that an Endpoint's roles may have, each its own."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from common.resources import Endpoint, Node
from common.resources.pool import Device, NodeStatus
from control.planning.answers import OfferedDevices
from control.planning.supplies import offered_stock, pool_stock, requests_of, supplies_for
from inference.core.performance.options import Refusal
from inference.core.performance.supply import Supply
from scheduler.catalogue import load_catalogue
from scheduler.translate.views import request_view

CATALOGUE = load_catalogue()
H100, A100, L40S, T4, ASCEND = "H100-SXM", "A100-SXM4-80GB", "L40S", "T4", "910B3"

ROLES = ("prefill", "decode")


def node(name: str, model: str, count: int, vendor: str = "nvidia", **labels: str) -> Node:
    content = {"kind": "Node", "metadata": {"name": name}, "spec": {"labels": labels}}
    found = Node.model_validate(content)
    spec = CATALOGUE.find(vendor, model)
    memory = spec.memory_bytes if spec is not None else 8 * 1024**3
    devices = [
        Device.model_validate(
            {"id": f"{name}-{i}", "index": i, "vendor": vendor, "model": model, "memory_bytes": memory}
        )
        for i in range(count)
    ]
    found.status = NodeStatus(devices=devices)
    found.status.set_condition("Ready", True, "Alive", now_ms=1)
    return found


def endpoint(prefill: Mapping[str, Any], decode: Mapping[str, Any]) -> Endpoint:
    roles = {
        name: {"devices": {"vendors": ["nvidia"], **devices}}
        for name, devices in (("prefill", prefill), ("decode", decode))
    }
    spec = {"model": "big", "mode": "disaggregated", **roles}
    return Endpoint.model_validate({"kind": "Endpoint", "metadata": {"name": "chat"}, "spec": spec})


def supplied(of: Endpoint, *nodes: Node) -> tuple[dict[str, Supply], list[Refusal]]:
    requests = {role: request_view(devices) for role, devices in requests_of(of.spec).items()}
    stock = pool_stock(nodes, requests, CATALOGUE)
    supplies, refused = supplies_for(requests_of(of.spec), stock, lambda _: None)
    return {one.figures.name: one for one in supplies}, refused


def test_each_role_has_the_models_that_it_names() -> None:
    of = endpoint({"models": [H100, L40S]}, {"models": [L40S, A100]})
    found, refused = supplied(of, *(node(name.lower(), name, 8) for name in (H100, L40S, A100, T4)))
    assert (found[H100].nodes, found[H100].prefill_nodes, found[H100].decode_nodes) == ((), (8,), ())
    assert (found[L40S].nodes, found[L40S].prefill_nodes, found[L40S].decode_nodes) == ((8,), (), ())
    assert (found[A100].nodes, found[A100].prefill_nodes, found[A100].decode_nodes) == ((), (), (8,))
    why = {one.device_class: (one.mode, one.why) for one in refused}
    assert why == {
        "nvidia/A100-SXM4-80GB": (
            "disaggregated",
            "prefill: spec.prefill.devices of the Endpoint does not allow it",
        ),
        "nvidia/H100-SXM": ("disaggregated", "decode: spec.decode.devices of the Endpoint does not allow it"),
        "nvidia/T4": (
            "any",
            "; ".join(f"{one}: spec.{one}.devices of the Endpoint does not allow it" for one in ROLES),
        ),
    }


def test_nodes_that_only_one_role_may_be_on_are_kept_for_it() -> None:
    of = endpoint({"nodeLabels": {"zone": "east"}}, {"nodeLabels": {"rack": "1"}})
    found, _ = supplied(
        of,
        node("a", H100, 8, zone="east"),
        node("b", H100, 4, rack="1"),
        node("c", H100, 2, zone="east", rack="1"),
        node("d", H100, 1),
    )
    one = found[H100]
    assert (one.nodes, one.prefill_nodes, one.decode_nodes) == ((2,), (8,), (4,))
    assert (one.devices_for("prefill"), one.devices_for("decode"), one.devices) == (10, 6, 14)


def test_every_device_that_vllm_hands_caches_over_on_says_how() -> None:
    """With a link of its own or over the host's bus; on Ascend no way is known that the gateway speaks."""
    alone = Endpoint.model_validate(
        {"kind": "Endpoint", "metadata": {"name": "chat"}, "spec": {"model": "big"}}
    )
    nodes = [node(name.lower(), name, 8) for name in (H100, L40S, T4)]
    nodes += [node("npu", ASCEND, 8, "ascend"), node("old", "V100-SXM2", 8)]
    found, _ = supplied(alone, *nodes)
    assert {name: one.connector for name, one in found.items()} == {
        H100: "NixlConnector",
        L40S: "NixlConnector",
        T4: "NixlConnector",
        ASCEND: "",
        "V100-SXM2": "",
    }


@settings(max_examples=100)
@given(
    allowed=st.tuples(*[st.lists(st.sampled_from((H100, A100, L40S)), unique=True, max_size=3)] * 2),
    zones=st.tuples(*[st.sampled_from(("", "east", "west"))] * 2),
    pool=st.lists(
        st.tuples(
            st.sampled_from((H100, A100, L40S)), st.integers(0, 8), st.sampled_from(("", "east", "west"))
        ),
        max_size=6,
    ),
)
def test_no_role_is_given_a_device_that_it_may_not_have(
    allowed: tuple[list[str], list[str]], zones: tuple[str, str], pool: list[tuple[str, int, str]]
) -> None:
    wanted = [
        {"models": models, "nodeLabels": {"zone": zone} if zone else {}}
        for models, zone in zip(allowed, zones, strict=True)
    ]
    nodes = [
        node(f"n{number}", model, count, **({"zone": zone} if zone else {}))
        for number, (model, count, zone) in enumerate(pool)
    ]
    found, refused = supplied(endpoint(*wanted), *nodes)
    may = [
        {
            model: sum(
                count
                for other, count, at in pool
                if other == model and (not models or model in models) and zone in ("", at)
            )
            for model in (H100, A100, L40S)
        }
        for models, zone in zip(allowed, zones, strict=True)
    ]
    for model in (H100, A100, L40S):
        one = found.get(model)
        given = (one.devices_for("prefill"), one.devices_for("decode")) if one else (0, 0)
        assert given == (may[0][model], may[1][model])
        if one is not None:
            assert one.devices <= sum(count for other, count, _ in pool if other == model)
            if 0 in given:
                assert model in {no.device_class.partition("/")[2] for no in refused}


def test_devices_that_somebody_names_are_there_for_all_roles() -> None:
    of = endpoint({"models": [H100]}, {})
    offered = [
        {"device_class": f"nvidia/{H100}", "count": 8},
        {"device_class": f"nvidia/{A100}", "count": 4},
    ]
    stock = offered_stock([OfferedDevices.model_validate(one) for one in offered], CATALOGUE)
    supplies, _ = supplies_for(requests_of(of.spec), stock, lambda _: 7)
    found = {one.figures.name: one for one in supplies}
    assert (found[H100].nodes, found[A100].nodes, found[A100].decode_nodes) == ((8,), (), (4,))
