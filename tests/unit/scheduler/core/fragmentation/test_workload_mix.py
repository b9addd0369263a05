"""By which requests fragmentation is judged."""

import numpy as np

from scheduler.core.fragmentation.workload_mix import USUAL, workload_mix_of
from scheduler.core.fragmentation.worlds import _hashed
from scheduler.core.model.catalogue import Catalogue
from scheduler.translate.kept_views import MIX_MS, MIX_WORKLOADS
from scheduler.translate.snapshots import SnapshotKeeper
from scheduler.translate.views import World
from tests.unit.scheduler.build import role, workload


def test_rare_kinds_count_too_and_ranks_are_weighed() -> None:
    workload_mix = workload_mix_of(
        [workload("w", role(replicas=199, share_millis=500)), workload("rare", role(count=8))]
    )
    assert [(round(task.weight, 3), task.count, task.share_millis) for task in workload_mix.tasks] == [
        (0.995, 1, 500),
        (0.005, 8, 1000),
    ]
    assert workload_mix_of([]) is USUAL


def test_a_pool_gets_a_mix_of_its_own_once_enough_runs_there_and_keeps_it_for_a_while() -> None:
    keeper = SnapshotKeeper(Catalogue(()), 10.0)
    few = [workload(f"w{n}") for n in range(MIX_WORKLOADS - 1)]
    many = [*few, workload("half", role(share_millis=500))]
    assert keeper.take(World(), few, (), {}, 0).workload_mix is USUAL
    workload_mix = keeper.take(World(), many, (), {}, 0).workload_mix
    assert len(workload_mix.tasks) == 2
    assert keeper.take(World(), few, (), {}, MIX_MS - 1).workload_mix is workload_mix
    assert keeper.take(World(), many, (), {}, MIX_MS).workload_mix is not workload_mix


def test_what_looks_random_in_worlds_is_split_mix_64() -> None:
    """The first numbers that Steele, Lea and Flood's generator gives from 0, and its rule for any other."""

    def mixed(number: int) -> int:
        z = (number + 1) * 0x9E3779B97F4A7C15 % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    first = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert _hashed(np.arange(3, dtype=np.uint64)).tolist() == first == [mixed(n) for n in range(3)]
    large = [2**63, 2**64 - 1, 12_345_678_901]
    assert _hashed(np.array(large, dtype=np.uint64)).tolist() == [mixed(n) for n in large]
