"""Who gives way to whom, case by case."""

from dataclasses import replace

import pytest

from scheduler.core.model.rules import QueueRules
from scheduler.core.model.types import (
    Affinity,
    NodeView,
    Policy,
    QueueView,
    Quota,
    RunningView,
    Tide,
    WorkloadView,
)
from scheduler.core.placement.placing import ANYWHERE, Bounds
from scheduler.core.placement.snapshot import take_snapshot
from scheduler.core.placement.trial import Trial
from scheduler.core.preemption.preemption import PreemptionPlan, find_room
from scheduler.core.quota.quota import QuotaRefusal
from tests.unit.scheduler.build import NOW_MS, gpu, holding, node, role, workload

LONG_AGO = NOW_MS - 900_000


def eight(name: str, **more: object) -> NodeView:
    return node(name, *(gpu(i) for i in range(8)), **more)


def trial(
    nodes: list[NodeView], running: list[RunningView], queues: list[QueueView] | None = None, **policy: object
) -> Trial:
    snapshot = take_snapshot(nodes, queues or [QueueView("default")], (), running)
    return Trial(snapshot, Policy(**policy), NOW_MS)  # type: ignore[arg-type]


def seek(on: Trial, claimant: WorkloadView) -> PreemptionPlan | None:
    return find_room(on, claimant, on.bounds_for(claimant))


def victims(room: PreemptionPlan | None) -> list[str]:
    assert room is not None
    return sorted(victim.uid.removeprefix("uid-") for victim in room.victims)


def gang(name: str, on: list[NodeView], devices: int = 1, **more: object) -> RunningView:
    """A workload with a rank on each of these nodes, on its first devices."""
    least = more.pop("min_replicas", None)
    parts = [holding(name, at, *range(devices)) for at in on]
    ranks = [part.placement[0]._replace(replica=i, rank=i) for i, part in enumerate(parts)]
    started_ms = more.pop("started_ms", 0)
    runs = workload(name, role(len(on), min_replicas=least, count=devices), **more)  # type: ignore[arg-type]
    return RunningView(runs, tuple(ranks), started_ms)  # type: ignore[arg-type]


def test_the_least_important_goes_then_the_one_with_least_to_lose() -> None:
    a = node("a", *(gpu(i) for i in range(4)))
    running = [
        holding("important", a, 0, priority=3, started_ms=NOW_MS - 1000),
        holding("old", a, 1, started_ms=0),
        holding("new", a, 2, started_ms=NOW_MS - 5000),
        holding("older", a, 3, started_ms=0, priority=0),
    ]
    assert victims(seek(trial([a], running), workload("w", priority=5))) == ["new"]


def test_one_of_two_equal_ones_goes_and_it_is_the_newer() -> None:
    a = node("a", gpu(0), gpu(1))
    running = [holding("first", a, 0, started_ms=1000), holding("second", a, 1, started_ms=2000)]
    assert victims(seek(trial([a], running), workload("w", priority=5))) == ["second"]


@pytest.mark.parametrize(
    "spared",
    [{"priority": 5}, {"priority": 9}, {"preemptible": False}],
    ids=["equal", "higher", "not preemptible"],
)
def test_who_is_never_a_victim(spared: dict[str, object]) -> None:
    a = node("a", gpu(0))
    assert seek(trial([a], [holding("r", a, 0, **spared)]), workload("w", priority=5)) is None


def test_a_node_is_cleared_for_a_rank_that_needs_all_of_it_not_eight_devices_here_and_there() -> None:
    nodes = [eight(name) for name in "abc"]
    running = [
        holding(f"{at.name}{i}", at, i, started_ms=NOW_MS - (1000 if i < 6 else 800_000 + ord(at.name)))
        for at in nodes
        for i in range(8)
    ]
    room = seek(trial(nodes, running), workload("w", role(count=8), priority=1))
    assert len(victims(room)) == 8
    assert len({name[0] for name in victims(room)}) == 1


def test_killing_a_gang_frees_all_of_its_nodes_and_that_is_used() -> None:
    nodes = [node(name, gpu(0)) for name in "abcd"]
    singles = [holding(f"s-{at.name}", at, 0, started_ms=NOW_MS - 400_000) for at in nodes[:2]]
    running = [*singles, gang("g", nodes[2:], started_ms=NOW_MS - 390_000)]
    assert victims(seek(trial(nodes, running), workload("w", role(2), priority=1))) == ["g"]


def test_fractions_are_cleared_until_the_share_fits_on_one_device() -> None:
    a = node("a", gpu(0), gpu(1))
    running = []
    for index, (device, millis) in enumerate([(0, 600), (0, 400), (1, 300), (1, 700)]):
        one = holding(f"f{index}", a, device, started_ms=NOW_MS - 1000 * (index + 1))
        (rank,) = one.placement
        share = rank.shares[0]._replace(
            millis=millis, memory_bytes=rank.shares[0].memory_bytes * millis // 1000
        )
        running.append(replace(one, placement=(rank._replace(shares=(share,)),)))
    room = seek(trial([a], running), workload("w", role(share_millis=500), priority=1))
    assert victims(room) == ["f0"]


def test_all_ranks_in_one_rack_clear_one_rack() -> None:
    nodes = [node(f"n{i}", gpu(0), labels=(("rack", f"r{i // 2}"),)) for i in range(4)]
    ages = (1000, 800_000, 200_000, 200_000)
    running = [holding(at.name, at, 0, started_ms=NOW_MS - age) for at, age in zip(nodes, ages, strict=True)]
    claimant = workload("w", role(2), priority=1, affinity=Affinity(same="rack"))
    assert victims(seek(trial(nodes, running), claimant)) == ["n2", "n3"]


def test_a_neighbour_to_keep_apart_from_goes_although_there_is_room() -> None:
    a = node("a", gpu(0), gpu(1))
    database = holding("db", a, 0, labels=(("app", "db"),))
    claimant = workload("w", priority=1, affinity=Affinity(apart=(("app", "db"),)))
    assert victims(seek(trial([a], [database]), claimant)) == ["db"]


def test_host_cpu_is_freed_where_devices_are_not_short() -> None:
    a = node("a", gpu(0), gpu(1), cpu_millis=8000)
    hungry = holding("r", a, 0)
    hungry = replace(hungry, placement=(hungry.placement[0]._replace(cpu_millis=8000),))
    room = seek(trial([a], [hungry]), workload("w", role(cpu_millis=4000), priority=1))
    assert victims(room) == ["r"]


class TestElastic:
    nodes = tuple(node(name, gpu(0)) for name in "abcd")

    def test_ranks_are_given_up_before_anyone_is_killed_the_highest_first(self) -> None:
        running = [
            gang("elastic", list(self.nodes[:3]), min_replicas=1, priority=1, started_ms=LONG_AGO),
            holding("cheap", self.nodes[3], 0, started_ms=NOW_MS - 1000),
        ]
        on = trial(list(self.nodes), running)
        room = seek(on, workload("w", priority=5))
        assert room is not None
        assert not room.victims
        (resize,) = room.resizes
        assert [a.node for a in resize.placement] == ["a", "b"]
        assert resize.beneficiary == "uid-w"
        assert [a.node for a in room.placement] == ["c"]
        assert on.running["uid-elastic"].placement == resize.placement

    def test_what_shrinking_cannot_give_is_taken_by_killing(self) -> None:
        running = [
            gang("elastic", list(self.nodes[:3]), min_replicas=2, started_ms=LONG_AGO),
            holding("other", self.nodes[3], 0, started_ms=NOW_MS - 1000),
        ]
        room = seek(trial(list(self.nodes), running), workload("w", role(2), priority=5))
        assert room is not None
        assert victims(room) == ["other"]
        assert [len(resize.placement) for resize in room.resizes] == [2]

    def test_nobody_loses_places_for_ranks_that_the_claimant_can_do_without(self) -> None:
        running = [holding(at.name, at, 0) for at in self.nodes]
        room = seek(trial(list(self.nodes), running), workload("w", role(4, min_replicas=1), priority=1))
        assert len(victims(room)) == 1


class TestLeaving:
    a = node("a", gpu(0), gpu(1))

    def going(self, position: int, **more: object) -> RunningView:
        one = holding(f"going{position}", self.a, position, **more)
        return replace(one, leaving=True, ends_ms=NOW_MS + 5000)

    def test_what_leaves_anyway_is_waited_for_and_nobody_else_goes(self) -> None:
        on = trial([self.a], [self.going(0), holding("r", self.a, 1)])
        room = seek(on, workload("w", priority=5))
        assert room is not None
        assert (room.victims, room.resizes) == ((), ())
        assert [share.index for share in room.placement[0].shares] == [0]

    def test_the_next_one_does_not_wait_for_the_same_places(self) -> None:
        on = trial([self.a], [self.going(0), holding("r", self.a, 1)])
        assert seek(on, workload("w", priority=5)) is not None
        assert victims(seek(on, workload("x", priority=5))) == ["r"]

    def test_places_that_come_free_at_no_known_time_are_not_counted_on(self) -> None:
        stuck = replace(self.going(0), ends_ms=None)
        assert seek(trial([self.a], [stuck, self.going(1)]), workload("w", role(count=2))) is None

    def test_what_victims_leave_over_is_given_to_nobody_before_they_are_gone(self) -> None:
        on = trial([self.a], [holding("r", self.a, 0, 1)])
        assert victims(seek(on, workload("w", priority=5))) == ["r"]
        assert not isinstance(on.place(workload("x"), ANYWHERE), tuple)


class TestQuota:
    queues = (
        QueueView("team", is_cohort=True),
        QueueView("owner", parent="team", quotas=(Quota("*", 4000),)),
        QueueView("guest", parent="team", quotas=(Quota("*", 4000),)),
    )
    a = node("a", *(gpu(i) for i in range(8)))

    def world(self, borrowed: int = 2, **more: object) -> Trial:
        started_ms = more.pop("started_ms", LONG_AGO)
        queues = more.pop("queues", self.queues)
        guests = [
            holding(f"g{i}", self.a, i, queue="guest", started_ms=started_ms, **more)
            for i in range(4 + borrowed)
        ]
        return trial([self.a], guests, list(queues))  # type: ignore[call-overload]

    def test_a_queue_takes_back_what_it_lent(self) -> None:
        on = self.world(4)
        claimant = workload("w", role(count=2), queue="owner")
        assert isinstance(on.bounds_for(claimant), QuotaRefusal)
        room = seek(on, claimant)
        assert len(victims(room)) == 2
        assert room is not None
        assert "takes back" in room.victims[0].message

    @pytest.mark.parametrize(
        ("reclaims", "priority", "taken"),
        [
            ("any", 9, True),
            ("any", 8, True),
            ("any", 7, True),
            ("lowerPriority", 9, False),
            ("lowerPriority", 8, False),
            ("lowerPriority", 7, True),
            ("never", 7, False),
        ],
    )
    def test_whose_borrowed_devices_are_taken_back(self, reclaims: str, priority: int, taken: bool) -> None:
        rules = QueueRules(reclaim_within_cohort=reclaims)  # type: ignore[arg-type]
        queues = tuple(replace(queue, rules=rules) for queue in self.queues)
        on = self.world(4, queues=queues, priority=priority)
        room = seek(on, workload("w", queue="owner", priority=8))
        assert (room is not None) == taken

    def test_it_does_not_take_more_than_was_lent(self) -> None:
        on = self.world(2)
        assert seek(on, workload("w", role(count=5), queue="owner")) is None
        assert len(victims(seek(on, workload("w", role(count=4), queue="owner")))) == 2

    def test_what_has_just_started_is_not_taken_back(self) -> None:
        on = self.world(4, started_ms=NOW_MS - 299_000)
        assert seek(on, workload("w", queue="owner")) is None
        assert seek(on, workload("w", queue="owner", priority=1)) is not None

    def test_who_borrows_takes_nothing_from_others_by_priority(self) -> None:
        on = self.world(4)
        assert seek(on, workload("w", role(count=5), queue="owner", priority=9)) is None

    def test_a_limit_on_devices_makes_the_queue_give_up_its_own(self) -> None:
        queue = QueueView("default", max_devices=1)
        on = trial([self.a], [holding("r", self.a, 0)], [queue])
        assert victims(seek(on, workload("w", priority=1))) == ["r"]
        assert seek(trial([self.a], [holding("r", self.a, 0)], [queue]), workload("w")) is None

    @pytest.mark.parametrize("code", ["BudgetSpent", "QueueUnknown", "QueueNotAllowed"])
    def test_what_no_victim_can_cure_has_none(self, code: str) -> None:
        on = trial([self.a], [holding("r", self.a, 0)])
        assert find_room(on, workload("w", priority=1), QuotaRefusal(code, "", "")) is None


def test_training_takes_nothing_that_the_tide_would_not_let_it_keep() -> None:
    a = node("a", gpu(0))
    on = trial([a], [holding("r", a, 0)], tides=(Tide("*", 1000),))
    assert seek(on, workload("w", priority=1, kind="training")) is None
    assert seek(on, workload("w", priority=1)) is not None


def test_only_the_nodes_that_bounds_name_are_cleared() -> None:
    nodes = [node(name, gpu(0)) for name in "ab"]
    running = [holding("cheap", nodes[0], 0, started_ms=NOW_MS - 1000), holding("dear", nodes[1], 0)]
    room = find_room(trial(nodes, running), workload("w", priority=1), Bounds(only=(1,)))
    assert victims(room) == ["dear"]


def test_who_gives_way_to_an_older_one_of_its_own_queue_is_told_so() -> None:
    a = node("a", gpu(0))
    rules = QueueRules(within_queue="lowerOrNewerEqualPriority")
    newer = holding("newer", a, 0, created_ms=2, started_ms=LONG_AGO)
    on = trial([a], [newer], [QueueView("default", rules=rules)])
    plan = seek(on, workload("older", role(vendors=("nvidia",)), created_ms=1))
    assert plan is not None
    (preempt,) = plan.victims
    assert "an older workload of queue default waits" in preempt.message
