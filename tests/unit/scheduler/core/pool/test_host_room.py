"""What ranks take of a node's CPU and memory is not there for the next one."""

import pytest

from tests.unit.scheduler.build import GIB, admitted, cycle, gpu, node, role, workload


@pytest.mark.parametrize("takes", [{"cpu_millis": 5000}, {"host_memory_bytes": 60 * GIB}])
def test_what_one_takes_of_the_host_the_next_one_does_not_get(takes: dict[str, int]) -> None:
    host = node("a", gpu(0), gpu(1), cpu_millis=8000, host_memory_bytes=100 * GIB)
    first, second = (workload(name, role(vendors=("nvidia",), **takes)) for name in ("first", "second"))
    assert admitted(cycle([host], first, second)) == ["first"]
