"""What a waiting workload is told."""

from typing import Any

import pytest

from scheduler.core.model.types import Affinity, NodeView, Policy, QueueView, Tide
from tests.unit.scheduler.build import GIB, cpu, cycle, deferred, gpu, holding, node, role, workload

NVIDIA_PAIR = node("a", gpu(0), gpu(1))


@pytest.mark.parametrize(
    ("pool", "request_", "code", "words", "remedy"),
    [
        (
            [NVIDIA_PAIR],
            {"vendors": ("ascend",)},
            "VendorMismatch",
            "no ascend device",
            "allow one of: nvidia",
        ),
        (
            [NVIDIA_PAIR],
            {"models": ("B200",)},
            "ModelMismatch",
            "no device of model B200",
            "allow one of: H100",
        ),
        ([NVIDIA_PAIR], {"memory_bytes": 90 * GIB}, "DeviceMemory", "90.0 GiB of memory", str(80 * GIB)),
        ([NVIDIA_PAIR], {"count": 4}, "DeviceCount", "needs 4 devices on one node, it has 2", "at most 2"),
        ([node("a", cpu("a", slots=2))], {"count": 3}, "DeviceCount", "it has 2", "lower devices.count"),
    ],
)
def test_what_never_fits_is_said_so(
    pool: list[NodeView], request_: dict[str, Any], code: str, words: str, remedy: str
) -> None:
    answer = deferred(cycle(pool, workload("w", role(**request_)))[0])
    assert answer.never
    assert answer.reasons[0].code == code
    assert answer.reasons[0].message.startswith("never fits on this pool")
    assert words in answer.reasons[0].message
    assert remedy in answer.remedy


@pytest.mark.parametrize(
    ("pool", "code", "words"),
    [
        ([node("a", gpu(0))], "DevicesBusy", "waits for running workloads to end"),
        ([node("a", gpu(0), cordoned=True)], "NodeCordoned", "waits for a node to be uncordoned"),
        ([node("a", gpu(0), cordoned=True, draining=True)], "NodeCordoned", "the node is draining"),
        ([node("a", gpu(0), alive=False)], "NodeLost", "waits for a node to come back"),
        (
            [node("a", gpu(0, healthy=False, fault="XID 79"))],
            "DeviceUnhealthy",
            "waits for a device to become healthy",
        ),
        ([node("a", gpu(0), alive=False), node("b")], "NodeLost", "waits for a node to come back"),
    ],
)
def test_what_fits_later_says_what_it_waits_for(pool: list[NodeView], code: str, words: str) -> None:
    running = [holding("there", pool[0], 0)] if code == "DevicesBusy" else []
    answer = deferred(cycle(pool, workload("w", role(vendors=("nvidia",))), running=running)[0])
    assert not answer.never
    assert (answer.reasons[0].code, words in answer.reasons[0].message) == (code, True)


def test_each_filter_is_counted_over_the_nodes() -> None:
    pool = [
        node("a", *(gpu(i, vendor="ascend", model="910B") for i in range(4))),
        node("b", gpu(0)),
        node("c", cpu("c")),
    ]
    running = [holding("there", pool[0], 2, 3)]
    answer = deferred(cycle(pool, workload("w", role(count=4, vendors=("ascend",))), running=running)[0])
    assert [reason.message for reason in answer.reasons] == [
        "waits for running workloads to end: needs 4 devices on one node, at most 2 free",
        "2 of 3 nodes: no ascend device",
        "1 of 3 nodes: needs 4 devices on one node, at most 2 free",
    ]
    assert answer.remedy.startswith("2 more such devices")


def test_a_gang_that_is_too_large_says_how_much_of_it_fits() -> None:
    never = deferred(cycle([NVIDIA_PAIR], workload("w", role(replicas=3)))[0])
    assert never.never
    assert "2 of the gang's 3 ranks" in never.reasons[0].message
    running = [holding("there", NVIDIA_PAIR, 1)]
    waits = deferred(cycle([NVIDIA_PAIR], workload("w", role(replicas=2)), running=running)[0])
    assert not waits.never
    assert "1 of its 2 ranks fit now" in waits.reasons[0].message


def test_a_queue_limit_below_the_need_never_fits() -> None:
    queues = [QueueView("default", max_devices=1)]
    answer = deferred(cycle([NVIDIA_PAIR], workload("w", role(count=2)), queues=queues)[0])
    assert answer.never
    assert answer.remedy == "raise maxDevices to 2 or ask for less"


def test_an_empty_pool_waits_for_a_node() -> None:
    answer = deferred(cycle([], workload("w"))[0])
    assert (answer.reasons[0].code, answer.never) == ("NoNodes", False)


def test_labels_that_nobody_asked_for_before_do_not_mislead_who_must_be_together() -> None:
    nodes = [node(name, gpu(0), labels=(("rack", "r1"), ("disk", "ssd"))) for name in "ab"]
    together = Affinity(same="rack")
    first = workload("first", role(replicas=3), affinity=together)
    labelled = role(replicas=3, node_labels=(("disk", "ssd"),))
    second = workload("second", labelled, affinity=together, created_ms=1)
    for decision in cycle(nodes, first, second):
        answer = deferred(decision)
        assert answer.never
        assert "2 of the gang's 3 ranks" in answer.reasons[0].message


def test_training_that_has_to_wait_for_inference_is_told_so() -> None:
    policy = Policy(tides=(Tide("nvidia", 2000),))
    (answer,) = map(deferred, cycle([NVIDIA_PAIR], workload("w", kind="training"), policy=policy))
    assert answer.reasons[0].code == "TideHigh"
    assert answer.reasons[0].message == (
        "inference needs these devices now: it has 2 of nvidia, training the rest"
    )


def test_of_broken_devices_those_are_to_be_repaired_that_it_could_use() -> None:
    broken = (gpu(0, model="A100", healthy=False), gpu(1, model="H100", healthy=False, fault="ECC"))
    pool = [node("a", *broken), node("b", gpu(0, "amd", "H100", healthy=False))]
    answer = deferred(cycle(pool, workload("w", role(models=("h100",), vendors=("nvidia",))))[0])
    assert answer.remedy == "repair a/nvidia-1 on a (ECC)"
