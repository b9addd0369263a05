"""An elastic gang starts with more than its least where there is room, each role with its part of that."""

from collections import Counter

import pytest

from scheduler.core.model.types import Admit
from tests.unit.scheduler.build import cycle, gpu, node, role, workload


@pytest.mark.parametrize(("devices", "ranks"), [(2, (1, 1)), (4, (2, 2)), (5, (2, 3)), (9, (2, 4))])
def test_what_there_is_beyond_the_least_is_shared_out_among_the_roles(
    devices: int, ranks: tuple[int, int]
) -> None:
    """None gets a second rank more before each has got its first."""
    few = role(2, "few", min_replicas=1, vendors=("nvidia",))
    many = role(4, "many", min_replicas=1, vendors=("nvidia",))
    (decision,) = cycle([node("a", *(gpu(index) for index in range(devices)))], workload("w", few, many))
    assert isinstance(decision, Admit)
    found = Counter(assignment.role for assignment in decision.placement)
    assert (found["few"], found["many"]) == ranks
