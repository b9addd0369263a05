"""How many nodes a pool should have whose pods have names and no ordinals, and which of them go."""

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.core.pools import JOIN_SECONDS, Demand, Need, Pool, PoolNode, Shape, resize

NOW, COOL = 10_000.0, 300.0
H100 = Shape("nvidia", "H100", devices=8, memory_bytes=80 << 30, cpu_millis=96_000)
LATE = NOW - JOIN_SECONDS


def pool(pods: str, nodes: tuple[PoolNode, ...] = (), **changes: Any) -> Pool:
    """One with a pod for each letter; as many are asked for unless told."""
    given = {"replicas": len(pods), "least": 0, "most": 4, "shape": H100, "nodes": nodes}
    return Pool("gpu", pods=frozenset(pods), **{**given, **changes})


def idle(pod: str, seconds: float = 500, is_draining: bool = False) -> PoolNode:
    return PoolNode(f"n-{pod}", pod, NOW - seconds, is_draining)


def busy(pod: str, is_draining: bool = False) -> PoolNode:
    return PoolNode(f"n-{pod}", pod, None, is_draining)


ONE = Demand("team/job", (Need(millis=8000),))


class Case(NamedTuple):
    pool: Pool
    replicas: int
    take: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    demands: tuple[Demand, ...] = ()


CASES = {
    "idle for long: drained first": Case(pool("a", (idle("a"),)), 1, drain=("n-a",)),
    "drained: taken by name": Case(pool("a", (idle("a", is_draining=True),)), 0, ("a",)),
    "idle, but not for long": Case(pool("a", (idle("a", 200),)), 1),
    "around one that is busy": Case(
        pool("abc", (idle("a", is_draining=True), busy("b"), idle("c", is_draining=True))), 1, ("a", "c")
    ),
    "several are drained at a time, the longest idle first": Case(
        pool("abc", (idle("a", 400), busy("b"), idle("c", 500))), 3, drain=("n-c", "n-a")
    ),
    "not below the least": Case(pool("ab", (idle("a"), idle("b", 600)), least=1), 2, drain=("n-b",)),
    "drained, and not to go any more": Case(
        pool("ab", (idle("a", is_draining=True), busy("b")), least=2), 2, keep=("n-a",)
    ),
    "drained, and in use nevertheless": Case(pool("a", (busy("a", True),)), 1, keep=("n-a",)),
    "one that never came is named too": Case(pool("ab", (busy("a"),), absent=(("b", LATE),)), 1, ("b",)),
    "one that may come stays": Case(pool("ab", (busy("a"),), absent=(("b", LATE + 1),)), 2),
    "no number falls for a pod that has no name yet": Case(
        pool("a", (busy("a"),), replicas=3, absent=((0, LATE), (1, LATE))), 3
    ),
    "pods that are too many are asked for, so that nobody chooses among them": Case(
        pool("abc", (busy("a"), busy("b"), busy("c")), replicas=2), 3
    ),
    "of those that are too many the idle one is named": Case(
        pool("abc", (busy("a"), busy("b"), idle("c", is_draining=True)), replicas=2), 2, ("c",)
    ),
    "above the most, all busy": Case(pool("abc", tuple(map(busy, "abc")), most=2), 3),
    "up to the least": Case(pool("", least=2), 2),
    "for what waits": Case(pool("a", (busy("a"),)), 2, demands=(ONE,)),
    "one is on its way": Case(pool("a", (busy("a"),), replicas=2), 2, demands=(ONE,)),
    "one that is late is on its way no longer": Case(
        pool("a", (busy("a"),), replicas=2, absent=((0, LATE),)), 3, demands=(ONE,)
    ),
    "drained, but wanted again": Case(
        pool("a", (idle("a", is_draining=True),)), 1, keep=("n-a",), demands=(ONE,)
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_resize(case: Case) -> None:
    [found] = resize([case.pool], case.demands, NOW, COOL)
    assert found.replicas == case.replicas
    assert (found.take, found.drain, found.keep) == (case.take, case.drain, case.keep)


def test_what_is_missing_is_pods_and_those_that_are_not_made_yet() -> None:
    assert pool("ab", (busy("a"),), replicas=4).missing() == {"b", 0, 1}
    assert replace(pool("", replicas=2), pods=None).missing() == {0, 1}


states = st.lists(st.sampled_from(["busy", "used", "idle", "fresh", "drained", "late", "coming"]), max_size=7)
demands = st.lists(
    st.builds(
        lambda ranks: Demand("team/job", tuple(Need(millis=millis * 1000) for millis in ranks)),
        st.lists(st.integers(1, 9), min_size=1, max_size=3),
    ),
    max_size=4,
)


def drawn(states: list[str], **changes: Any) -> Pool:
    nodes, absent = [], []
    for index, state in enumerate(states):
        pod = f"p{index}"
        if state in ("late", "coming"):
            absent.append((pod, LATE if state == "late" else NOW))
        else:
            since = None if state in ("busy", "used") else NOW - (5 if state == "fresh" else 500)
            nodes.append(PoolNode(f"n-{pod}", pod, since, state in ("used", "drained")))
    pods = frozenset(f"p{index}" for index in range(len(states)))
    return Pool("gpu", shape=H100, nodes=tuple(nodes), absent=tuple(absent), pods=pods, **changes)


@given(states, demands, st.integers(0, 9), st.integers(0, 4), st.integers(0, 5))
def test_what_is_in_use_is_never_named_and_nobody_is_left_to_choose(
    kinds: list[str], waiting: list[Demand], replicas: int, least: int, more: int
) -> None:
    before = drawn(kinds, replicas=replicas, least=least, most=least + more)
    assert before.pods is not None
    [found] = resize([before], waiting, NOW, COOL)
    in_use = {node.place for node in before.nodes if node.idle_since_seconds is None}
    assert not in_use & set(found.take)
    assert set(found.take) <= {
        p for p, kind in zip(sorted(before.pods), kinds, strict=True) if kind in ("late", "drained")
    }
    assert not set(found.drain) & {node.name for node in before.nodes if node.idle_since_seconds is None}
    left = before.pods - set(found.take)
    assert found.replicas >= max(len(left), least)
    assert found.replicas >= replicas - len(found.take), "each that goes is named"
    assert found.replicas <= max(before.most, replicas, len(before.pods))
    assert len(set(found.take)) == len(found.take)
    assert not set(found.drain) & set(found.keep)


@given(states, st.integers(0, 4))
def test_a_pool_of_which_nothing_is_used_comes_down_to_the_least(kinds: list[str], least: int) -> None:
    kinds = ["drained" if kind in ("busy", "used", "fresh", "coming") else kind for kind in kinds]
    now = drawn(kinds, replicas=len(kinds), least=least, most=9)
    for _ in range(3):
        [found] = resize([now], [], NOW, COOL)
        assert now.pods is not None
        left = now.pods - set(found.take)
        nodes = tuple(
            replace(
                node,
                is_draining=(node.is_draining or node.name in found.drain) and node.name not in found.keep,
            )
            for node in now.nodes
            if node.place in left
        )
        now = replace(now, replicas=found.replicas, pods=left, nodes=nodes)
    assert now.replicas == least
