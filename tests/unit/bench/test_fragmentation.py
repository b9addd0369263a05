"""The fragmentation bench: its policies' scores by hand, its rules, and its bound against real packings."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import charts
from bench.fragmentation import policies
from bench.fragmentation.__main__ import main
from bench.fragmentation.arrivals import arrivals, gpu_millis_of
from bench.fragmentation.bound import cuts, most_used_millis
from bench.fragmentation.cluster import Cluster, Policy, Shape, State, after_taking, fits
from bench.fragmentation.experiment import MAKERS, bound, run, run_moving, workload_mix_of
from bench.fragmentation.moving import ARRIVAL_SECONDS, MovingCluster
from bench.fragmentation.variants import VARIANTS, vary
from bench.traces import TraceNode, TraceTask
from common.errors import InvalidInput

pytestmark = pytest.mark.unit

SHARED, WHOLE, PAIR = Shape(4000, 1, 470, ()), Shape(8000, 1, 1000, ()), Shape(8000, 2, 1000, ())
HOST = Shape(8000, 0, 0, ())
NODES = [TraceNode(f"n{i}", 32000, 131072, 4, "G2" if i % 2 else "T4") for i in range(40)]
KINDS = [
    TraceTask("share", 3000, 8192, 1, 470),
    TraceTask("large share", 3000, 8192, 1, 810),
    TraceTask("whole", 8000, 16384, 1, 1000),
    TraceTask("pair", 16000, 16384, 2, 1000),
    TraceTask("host", 6000, 16384, 0, 0),
    TraceTask("picky", 1000, 1024, 1, 320, ("T4",)),
]
TASKS = [KINDS[i % len(KINDS)] for i in range(240)]


def state(cpu: int, *free: int, classes: frozenset[int] = frozenset()) -> State:
    return State("G2", (96000, len(free)), cpu, tuple(sorted(free)), classes)


@pytest.mark.parametrize(
    ("policy", "before", "shape", "score"),
    [
        pytest.param(policies.DotProduct(), state(64000, 500, 1000), WHOLE, 97, id="dotprod"),
        pytest.param(policies.GpuPacking(), state(64000, 500, 1000), SHARED, 50, id="packing-in-use"),
        pytest.param(policies.GpuPacking(), state(64000, 300, 500), SHARED, 50, id="packing-fullest"),
        pytest.param(policies.GpuPacking(), state(64000, 500, 1000), WHOLE, 49, id="packing-opens-a-gpu"),
        pytest.param(policies.GpuPacking(), state(64000, 1000, 1000), WHOLE, 31, id="packing-opens-a-node"),
        pytest.param(policies.GpuPacking(), state(64000, 1000, 1000), HOST, 0, id="packing-host"),
        pytest.param(policies.GpuClustering(), state(64000, 1000, 1000), PAIR, 43, id="clustering-empty"),
        pytest.param(
            policies.GpuClustering(), state(9000, 0, 1000, classes=frozenset({1})), WHOLE, 96, id="alone"
        ),
        pytest.param(
            policies.GpuClustering(), state(9000, 0, 1000, classes=frozenset({0, 1})), WHOLE, 71, id="among"
        ),
        pytest.param(
            policies.GpuClustering(), state(9000, 0, 1000, classes=frozenset({0})), WHOLE, 21, id="other"
        ),
        pytest.param(policies.BestFit(), state(40000, 0, 1000), WHOLE, 87, id="bestfit"),
    ],
)
def test_scores_of_the_peers(policy: Policy, before: State, shape: Shape, score: int) -> None:
    assert policy.score(before, shape)[0] == score


def test_fgd_takes_the_device_that_strands_least() -> None:
    policy = policies.fragmentation_gradient(workload_mix_of([KINDS[0], KINDS[2]], 1.0))
    # 470 and 1000 come equally often: 470 left over serve nobody but shares.
    score, after = policy.score(state(96000, 470, 1000), SHARED)
    assert after.free == (0, 1000)
    assert score == int(100 / (1 + np.exp(-0.235)))


def test_equal_scores_go_to_the_first_node() -> None:
    assert policies.DotProduct().choose(np.array([-1, 7, 9, 9])) == 2
    # Stretched to 0..100 the last two differ, the first is infeasible.
    assert policies.BestFit().choose(np.array([-1, 90, 90])) == 1


def test_clones_come_after_the_originals_until_the_target() -> None:
    originals = [TraceTask(f"t{i}", 1, 1, 1, 500) for i in range(10)]
    order = arrivals(originals, 10_000, np.random.default_rng(1))
    assert sorted(task.name for task in order[:10]) == sorted(task.name for task in originals)
    assert sum(task.gpu_millis for task in order) == 13_000
    fewer = arrivals(originals, 2_000, np.random.default_rng(1))
    assert sum(task.gpu_millis for task in fewer) <= 2_600


def test_patterns_are_all_full_cuts_of_a_gpu() -> None:
    assert sorted(cuts((500, 300))) == [(0, 3), (1, 1), (2, 0)]
    assert cuts(()) == []


def test_the_bound_of_shares_that_leave_a_rest() -> None:
    nodes = [TraceNode("n", 100_000, 100_000, 2, "G2")]
    large = [TraceTask("l", 1000, 1, 1, 810)] * 3
    assert most_used_millis(nodes, large) == pytest.approx(1620)
    # 190 fits beside 810; with room for two tasks' CPU only, the larger ones are best.
    assert most_used_millis(nodes, [*large, TraceTask("s", 1000, 1, 1, 190)]) == pytest.approx(1810)
    poor = [TraceNode("n", 2000, 100_000, 2, "G2")]
    assert most_used_millis(poor, [*large, TraceTask("s", 1000, 1, 1, 190)]) == pytest.approx(1620)
    whole = TraceTask("w", 1000, 1, 1, 1000)
    assert most_used_millis(nodes, [*large, whole, whole], running=large[:1]) == pytest.approx(1810)


tasks = st.lists(st.sampled_from(KINDS), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(tasks, st.sampled_from(sorted(MAKERS)), st.integers(0, 5))
def test_no_policy_beats_the_bound_or_takes_more_than_there_is(
    offered: list[TraceTask], policy: str, seed: int
) -> None:
    nodes = NODES[:3]
    cluster = Cluster(nodes, MAKERS[policy](KINDS, np.random.default_rng(seed)), workload_mix_of(KINDS, 1.0))
    placed = [(task, cluster.offer(task)) for task in offered]
    assert cluster.used_millis == sum(task.gpu_millis for task, node in placed if node is not None)
    assert cluster.used_millis <= most_used_millis(nodes, offered) + 1e-6
    for index, node in enumerate(nodes):
        here = [task for task, at in placed if at == index]
        left = cluster.state(index)
        assert left.cpu_free == node.cpu_millis - sum(task.cpu_millis for task in here) >= 0
        assert sum(task.memory_mebibytes for task in here) <= node.memory_mebibytes
        assert sum(left.free) == gpu_millis_of([node]) - sum(task.gpu_millis for task in here)
        assert all(0 <= free <= 1000 for free in left.free)
        assert all(not task.models or node.model in task.models for task in here)


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 96000))
def test_a_task_is_taken_exactly_where_it_fits(first: int, second: int, cpu: int) -> None:
    before = state(cpu, first, second)
    if fits(before, SHARED):
        after = after_taking(before, SHARED)
        assert sum(before.free) - sum(after.free) == 470
        assert min(after.free) >= 0
    else:
        assert max(first, second) < 470 or cpu < 4000


def test_a_run_is_the_same_every_time_and_stays_above_the_bound() -> None:
    one, other = (run(NODES, TASKS, "computility", 7) for _ in range(2))
    assert one.unallocated_percent == other.unallocated_percent
    assert one.unallocated_percent[100] >= bound(NODES, TASKS, 7)
    assert one.placed <= len(TASKS)


def test_moves_stay_above_their_floor() -> None:
    for seed in range(3):
        moving = run_moving(NODES, TASKS, delaying=False, seed=seed)
        assert moving.floor is not None
        assert moving.floor - 1e-6 <= moving.run.unallocated_percent[100]
        assert moving.tally.held == 0
        assert moving.tally.made_room_for <= moving.tally.moves


@settings(max_examples=30, deadline=None)
@given(tasks, st.sampled_from((0, 5 * ARRIVAL_SECONDS, 24 * 3600)))
def test_the_product_gives_nothing_out_twice_and_turns_nobody_away(
    offered: list[TraceTask], max_delay_seconds: int
) -> None:
    nodes, mix = NODES[:3], workload_mix_of(KINDS, 1.0)
    cluster = MovingCluster(nodes, mix, mix, max_delay_seconds)
    for number, task in enumerate(offered):
        cluster.offer(f"t{number}", task)
    named = {f"t{number}": task for number, task in enumerate(offered)}
    assert sorted([*cluster.running, *cluster.waiting]) == sorted(named)
    assert cluster.used_millis == sum(named[uid].gpu_millis for uid in cluster.running)
    assert cluster.used_millis <= most_used_millis(nodes, offered) + 1e-6
    held: dict[str, list[int]] = {}
    for uid, view in cluster.running.items():
        (rank,) = view.placement
        assert len(rank.shares) == named[uid].count
        assert all(not named[uid].models or share.model in named[uid].models for share in rank.shares)
        for place, amount in [
            (rank.node, named[uid].cpu_millis),
            *((s.device, s.millis) for s in rank.shares),
        ]:
            held.setdefault(place, []).append(amount)
    assert all(sum(amounts) <= (1000 if "/" in place else 32000) for place, amounts in held.items())
    if not max_delay_seconds:
        assert not cluster.tally.held


def test_who_waits_for_a_better_place_is_placed_when_its_delay_ends() -> None:
    """810 of a device leaves 190 that nobody wants: from 85 % in use on it waits, 5 arrivals long."""
    large, whole, host = KINDS[1], KINDS[2], replace(KINDS[4], memory_mebibytes=0)
    node = replace(NODES[0], cpu_millis=640_000, gpus=8)
    cluster = MovingCluster(
        [node], workload_mix_of(KINDS, 1.0), workload_mix_of(KINDS, 1.0), 5 * ARRIVAL_SECONDS
    )
    for number in range(7):
        assert cluster.offer(f"w{number}", whole)
    assert not cluster.offer("large", large)
    assert (cluster.tally.held, cluster.tally.holding) == (1, 1)
    for number in range(4):
        assert cluster.offer(f"h{number}", host)
        assert "large" in cluster.waiting
    assert cluster.offer("h4", host)
    assert "large" in cluster.running
    assert cluster.tally.holding == 0
    assert cluster.tally.longest_wait_seconds == 5 * ARRIVAL_SECONDS


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_drawn_alike_every_time(name: str) -> None:
    drawn = vary(name, NODES, TASKS)
    assert drawn == vary(name, NODES, TASKS)
    assert drawn != TASKS
    kinds = {replace(task, models=()) for task in TASKS}
    assert {replace(task, models=()) for task in drawn} <= kinds


def test_a_variant_has_the_sharing_that_it_says() -> None:
    drawn = vary("sharing80", NODES, TASKS)
    shared = sum(task.gpu_millis for task in drawn if 0 < task.share_millis < 1000)
    assert shared / sum(task.gpu_millis for task in drawn) == pytest.approx(0.8, abs=0.05)
    with pytest.raises(InvalidInput, match="share"):
        vary("sharing80", NODES, [KINDS[2]])
    with pytest.raises(InvalidInput, match="no such tasks"):
        vary("host200", NODES, [KINDS[2]])


def test_a_variant_names_models_as_its_law_says_and_one_of_them_too_often() -> None:
    models = ("A", "A", "A", "A", "A", "A", "B", "C", "C", "D")
    nodes = [TraceNode(f"n{i}", 64000, 131072, 4, model) for i, model in enumerate(models * 8)]
    offered = [replace(KINDS[2], name=f"t{i}") for i in range(320)]
    drawn = vary("named50", nodes, offered)
    by_name = Counter(task.models for task in drawn)
    assert by_name[()] == pytest.approx(160, abs=8)
    assert by_name["C",] == pytest.approx(1.22 * 64, abs=2), "there are 64"
    assert by_name["B",] == pytest.approx(0.4 * 32, abs=2)
    assert sum(number for named, number in by_name.items() if {"B", "D"} & {*named} and "A" not in named) < 64
    with pytest.raises(InvalidInput, match="one model"):
        vary("named33", nodes[:1], offered)


def test_a_cluster_may_be_too_small_to_compare() -> None:
    with pytest.raises(InvalidInput, match="too small"):
        run([TraceNode("n", 64000, 1_000_000, 2, "G2")], [KINDS[3]], "fgd", 1)


def test_the_command_prints_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "OUT", tmp_path / "out")
    nodes, pods = tmp_path / "nodes.csv", tmp_path / "pods.csv"
    nodes.write_text(
        "sn,cpu_milli,memory_mib,gpu,model\n"
        + "".join(f"{n.name},{n.cpu_millis},{n.memory_mebibytes},{n.gpus},{n.model}\n" for n in NODES)
    )
    pods.write_text(
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
        + "".join(
            f"{t.name},{t.cpu_millis},{t.memory_mebibytes},{t.count},{t.share_millis},{'|'.join(t.models)}\n"
            for t in TASKS
        )
    )
    command = ["--nodes", str(nodes), "--pods", str(pods), "--seeds", "2", "--jobs", "1", "--json"]
    assert main([*command, "--policies", "bestfit,fgd,computility"]) == 0
    printed = json.loads(capsys.readouterr().out)
    least = printed["bound"]["unallocated_percent_mean"]
    for name in ("bestfit", "fgd", "computility"):
        assert printed["policies"][name]["unallocated_percent_mean"] >= least
        assert len(printed["policies"][name]["unallocated_percent_by_seed"]) == 2
    for moved in (printed["migration"], printed["migration"]["moves_only"]):
        assert moved["unallocated_percent_mean"] >= least
    assert printed["migration"]["runs"] == "moves and delay"
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    assert main(["--nodes", str(tmp_path / "none.csv"), "--pods", str(pods)]) != 0
    assert "none.csv" in capsys.readouterr().err
