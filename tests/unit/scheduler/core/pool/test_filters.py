"""How many devices a request by equivalence takes, and what is said where no number will do."""

from dataclasses import replace
from typing import Any

import pytest

from scheduler.core.cycle import run_cycle
from scheduler.core.model.catalogue import Catalogue, DeviceSpec, PlacementRule
from scheduler.core.model.types import Admit, Defer, Policy, QueueView, Request, RoleView
from scheduler.core.placement.snapshot import take_snapshot
from tests.unit.scheduler.build import GIB, NOW_MS, gpu, node, workload

RULE = PlacementRule(legal_counts=(1, 2, 4, 8))
CATALOGUE = Catalogue((DeviceSpec("910B3", "ascend", ("910B3",), (("bf16", 300.0),), rule=RULE),))
NODE = node("a", *(gpu(i, "ascend", "910B3", gib=64) for i in range(8)))


def decided(**request: Any) -> Admit | Defer:
    wants = workload("w", RoleView("main", 1, replace(Request(count=0), **request)))
    snapshot = take_snapshot([NODE], [QueueView("default")], [wants], [], catalogue=CATALOGUE)
    (decision,) = run_cycle(snapshot, Policy(), NOW_MS)
    assert isinstance(decision, Admit | Defer)
    return decision


@pytest.mark.parametrize(
    ("request_", "devices"),
    [
        ({"total_memory_bytes": 64 * GIB}, 1),
        ({"total_memory_bytes": 64 * GIB + 1}, 2),
        ({"total_memory_bytes": 3 * 64 * GIB}, 4),
        ({"total_tflops": 1500.0}, 8),
        ({"total_tflops": 600.0, "total_memory_bytes": 150 * GIB}, 4),
        ({"total_tflops": 1000.0, "max_count": 4}, 4),
    ],
)
def test_it_takes_the_smallest_number_that_reaches_all_and_that_the_vendor_allows(
    request_: dict[str, Any], devices: int
) -> None:
    decision = decided(**request_)
    assert isinstance(decision, Admit)
    assert len(decision.placement[0].shares) == devices


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"total_memory_bytes": 5 * 64 * GIB, "max_count": 4}, "320.0 GiB with at most 4"),
        ({"total_tflops": 900.0, "max_count": 2}, "900 bf16 TFLOPS with at most 2"),
        (
            {"total_tflops": 900.0, "total_memory_bytes": 320 * GIB, "max_count": 3},
            "900 bf16 TFLOPS and 320.0 GiB with at most 3",
        ),
        ({"total_tflops": 9000.0}, "9000 bf16 TFLOPS"),
    ],
)
def test_where_no_number_will_do_it_is_told_what_it_asked_for(request_: dict[str, Any], words: str) -> None:
    decision = decided(**request_)
    assert isinstance(decision, Defer)
    assert decision.never
    assert decision.reasons[0].message.endswith(f"no number of devices of one model gives {words}")
