"""A queue takes back what it lent: from whom, how much, and that it starts on it. (The scenarios are those of
Kueue's and KAI's own tests.)"""

from dataclasses import replace

import pytest

from scheduler.core.model.rules import QueueRules
from scheduler.core.model.types import Affinity, Defer, NodeView, QueueView, Quota, RunningView, WorkloadView
from tests.unit.scheduler.build import cycle, deferred, gpu, holding, node, role, workload
from tests.unit.scheduler.life import Life
from tests.unit.scheduler.worlds import NOW_MS, World

HOUR_MS = 3_600_000
N = node("n", *(gpu(i) for i in range(12)))


def queue(name: str, devices: int, **more: object) -> QueueView:
    return QueueView(name, parent="team", quotas=(Quota("*", devices * 1000),), **more)  # type: ignore[arg-type]


def runs(name: str, first: int, devices: int, queue: str, **more: object) -> RunningView:
    """On the devices from ``first`` on, for an hour."""
    more.setdefault("started_ms", NOW_MS - HOUR_MS)
    return holding(name, N, *range(first, first + devices), queue=queue, **more)


def asks(name: str, devices: int, queue: str, **more: object) -> WorkloadView:
    return workload(name, role(count=devices), queue=queue, created_ms=NOW_MS, **more)  # type: ignore[arg-type]


def stopped(
    devices: int, queues: list[QueueView], running: list[RunningView], *claimants: WorkloadView
) -> set[str]:
    """Who is stopped in a pool of so many devices, until nothing changes any more: once each. The claimants
    run in the end, and nobody was stopped for nothing."""
    pool = NodeView("n", N.devices[:devices])
    views = (QueueView("team", is_cohort=True), *queues)
    life = Life.of(World((pool,), views, tuple(running), claimants))
    taken: list[str] = []
    for _ in range(30):
        before = {uid for uid, one in life.running.items() if one.leaving}
        life.cycle()
        taken += [uid for uid, one in life.running.items() if one.leaving and uid not in before]
    assert life.useless.preemptions == 0
    assert len(taken) == len(set(taken)), taken
    assert {one.uid for one in claimants} <= life.running.keys()
    return {uid.removeprefix("uid-") for uid in taken}


def test_the_owner_starts_on_what_it_took_back_although_the_borrower_is_older_and_has_the_smaller_share() -> (
    None
):
    owner = queue("a", 4, decayed_use=30 * 24 * 3600 * 4.0)
    running = [runs("borrower", 0, 4, "b", created_ms=NOW_MS - 2 * HOUR_MS)]
    assert stopped(4, [owner, queue("b", 0)], running, asks("new", 4, "a")) == {"borrower"}


@pytest.mark.parametrize("priority", [0, 5, 9], ids=["equal", "higher", "much higher"])
def test_borrowed_devices_come_back_whatever_the_borrowers_priority(priority: int) -> None:
    running = [runs("borrower", 0, 4, "b", priority=priority)]
    assert stopped(4, [queue("a", 4), queue("b", 0)], running, asks("new", 2, "a")) == {"borrower"}


def test_the_least_important_borrower_goes_first() -> None:
    running = [runs("vital", 0, 2, "b", priority=9), runs("minor", 2, 2, "b", priority=8)]
    assert stopped(4, [queue("a", 4), queue("b", 0)], running, asks("new", 2, "a")) == {"minor"}


def scattered(vital: int, *, minor: int = 0) -> World:
    """A queue runs a gang of eight, which its nominal quota covers, and borrows two devices on two small
    nodes; the owner of these wants two on one node, and only the gang's has as many."""
    nodes = [node("big", *(gpu(i) for i in range(8))), *(node(name, gpu(0), gpu(1)) for name in "kl")]
    at = {"started_ms": NOW_MS - HOUR_MS}
    running = (
        holding("gang", nodes[0], *range(8), queue="b", priority=vital, **at),
        *(holding(f"minor-{one.name}", one, 0, queue="b", priority=minor, **at) for one in nodes[1:]),
        *(holding(f"own-{one.name}", one, 1, queue="a", priority=9, **at) for one in nodes[1:]),
    )
    views = (QueueView("team", is_cohort=True), queue("a", 4), queue("b", 8))
    return World(tuple(nodes), views, running, (asks("new", 2, "a"),))


def test_what_a_queue_has_borrowed_is_its_least_important_work() -> None:
    """And not what its nominal quota covers, wherever the rest of it lies."""
    assert Life.of(scattered(9)).cycle() == 0
    assert Life.of(scattered(0)).cycle() == 1, "as important as the rest: it may be what is borrowed"
    assert Life.of(scattered(0, minor=9)).cycle() == 1, "less important than the rest"


@pytest.mark.parametrize("vital", [9, 0])
def test_who_has_the_smaller_share_takes_the_least_important_of_what_others_borrow(vital: int) -> None:
    """Eight important ones are within their queue's quota; only these have two devices on one node."""
    world = scattered(vital)
    big = world.nodes[0]
    views = (*world.queues, QueueView("c", parent="team", weight=100))
    singles = [
        holding(f"s{n}", big, n, queue="b", priority=vital, started_ms=NOW_MS - HOUR_MS) for n in range(8)
    ]
    running = (*singles, *(one for one in world.running if one.workload.name != "gang"))
    newcomer = asks("new", 2, "c", priority=0)
    life = Life.of(replace(world, queues=views, running=running, pending=(newcomer,)))
    assert life.cycle() == (0 if vital else 2)


def test_borrowers_who_take_by_importance_and_by_share_do_not_take_in_a_circle() -> None:
    """One takes by priority from the second, that one by its share from a third, and that from the first."""
    views = (
        QueueView("team", is_cohort=True, quotas=(Quota("*", 6000),)),
        QueueView("a", parent="team", rules=QueueRules(borrow_within_cohort="lowerPriority")),
        *(QueueView(name, parent="team") for name in "bc"),
    )
    running = (
        *(runs(f"a{n}", n, 1, "a", priority=9) for n in range(3)),
        runs("b0", 3, 1, "b"),
        *(runs(f"c{n}", 4 + n, 1, "c", priority=9) for n in range(2)),
    )
    world = World((NodeView("n", N.devices[:6]),), views, running, (asks("new", 1, "a", priority=9),))
    life = Life.of(world)
    taken = [life.cycle() for _ in range(40)]
    assert sum(taken[:20]) >= 1
    assert sum(taken[20:]) == 0


def test_where_no_quota_counts_nobody_takes_more_important_work_for_a_fairer_share() -> None:
    """It would take its places back by its importance, for ever."""
    views = (QueueView("team", is_cohort=True), *(QueueView(name, parent="team") for name in "ab"))
    running = (runs("r0", 0, 2, "a", priority=5), runs("r1", 2, 2, "a", priority=5))
    world = World((NodeView("n", N.devices[:4]),), views, running, (asks("new", 1, "b"),))
    assert sum(Life.of(world).cycle() for _ in range(8)) == 0
    equal = replace(world, pending=(asks("new", 1, "b", priority=5),))
    assert Life.of(equal).cycle() == 1


def test_a_cohort_takes_back_what_is_its_own_for_a_queue_that_has_nothing() -> None:
    queues = [
        QueueView("left", parent="team", is_cohort=True, quotas=(Quota("*", 4000),)),
        QueueView("right", parent="team", is_cohort=True),
        QueueView("a", parent="left"),
        QueueView("b", parent="right"),
    ]
    running = [runs("borrower", 0, 4, "b", priority=9)]
    assert stopped(4, queues, running, asks("new", 4, "a")) == {"borrower"}


def test_who_borrows_gives_back_before_the_owners_own_less_important_work() -> None:
    running = [
        runs("own", 0, 3, "a", priority=-1),
        *(runs(f"b{n}", 3 + 3 * n, 3, "b", priority=5) for n in range(3)),
    ]
    gone = stopped(12, [queue("a", 6), queue("b", 6)], running, asks("new", 3, "a"))
    assert len(gone) == 1
    assert gone < {"b0", "b1", "b2"}


def test_each_borrower_gives_what_it_borrowed_and_none_gives_more() -> None:
    running = [runs(f"{name}{n}", 4 * (name == "c") + 2 * n, 2, name) for name in "bc" for n in range(2)]
    gone = stopped(8, [queue("a", 4), queue("b", 2), queue("c", 2)], running, asks("new", 4, "a"))
    assert sorted(name[0] for name in gone) == ["b", "c"]


def test_a_gang_that_is_borrowed_in_part_goes_as_a_whole() -> None:
    running = [runs("gang", 0, 4, "b", priority=9)]
    assert stopped(4, [queue("a", 2), queue("b", 2)], running, asks("new", 2, "a")) == {"gang"}


def test_work_of_the_own_queue_and_of_a_borrower_make_room_together() -> None:
    running = [runs("own", 0, 2, "a"), *(runs(f"b{n}", 2 + 2 * n, 2, "b") for n in range(3))]
    gone = stopped(8, [queue("a", 4), queue("b", 4)], running, asks("new", 4, "a", priority=1))
    assert len(gone) == 2
    assert "own" in gone


def test_of_two_equal_ones_at_the_same_price_the_borrower_goes() -> None:
    """The node of what the claimant's queue owns comes first, and what is on it is as cheap."""
    running = [runs("own", 0, 2, "a"), runs("borrower", 2, 2, "b")]
    gone = stopped(4, [queue("a", 4), queue("b", 0)], running, asks("new", 2, "a", priority=1))
    assert gone == {"borrower"}


@pytest.mark.parametrize("order", [1, -1], ids=["as is", "reversed"])
def test_the_order_of_the_input_does_not_choose_between_equal_victims(order: int) -> None:
    running = [runs("one", 0, 1, "b"), runs("two", 1, 1, "b")][::order]
    assert stopped(2, [queue("b", 2)], running, asks("new", 1, "b", priority=1)) == {"one"}


def test_a_more_important_newcomer_takes_over_what_is_being_cleared_and_nobody_starts_in_vain() -> None:
    pool = NodeView("n", N.devices[:2])
    views = (QueueView("team", is_cohort=True), queue("a", 2), queue("b", 0))
    first = asks("first", 2, "a")
    life = Life.of(World((pool,), views, (runs("borrower", 0, 2, "b"),), (first,)), grace_ms=130_000)
    assert life.cycle() == 1
    assert life.pending["uid-first"].nominated
    life.arrive(asks("vital", 2, "a", priority=9))
    assert life.cycle() == 0, "the borrower goes already, and that is enough"
    assert not life.pending["uid-first"].nominated
    assert life.pending["uid-vital"].nominated
    assert sum(life.cycle() for _ in range(10)) == 0
    assert life.running.keys() == {"uid-vital"}
    assert life.useless.preemptions == 0


def test_who_loses_a_node_of_what_was_cleared_for_it_gets_what_is_left_and_comes_free_before_all_others() -> (
    None
):
    nodes = [node(name, gpu(0)) for name in "klm"]
    running = tuple(
        holding(name, at, 0, queue=of, started_ms=NOW_MS - HOUR_MS)
        for name, at, of in zip(("b0", "b1", "own"), nodes, ("b", "b", "a"), strict=True)
    )
    views = (QueueView("team", is_cohort=True), queue("a", 3), queue("b", 0))
    claimant = workload("new", role(2), queue="a", created_ms=NOW_MS)
    life = Life.of(World(tuple(nodes), views, running, (claimant,)), grace_ms=130_000)
    assert life.cycle() == 2
    life.lose(nodes[1])
    life.withdraw("uid-own")
    life.arrive(asks("rival", 1, "a", deadline_ms=0))
    assert sum(life.cycle() for _ in range(5)) == 0
    assert life.running.keys() == {"uid-new"}
    assert (life.useless.preemptions, life.useless.voided) == (0, 0)


def test_an_equal_newcomer_does_not() -> None:
    pool = NodeView("n", N.devices[:2])
    views = (QueueView("team", is_cohort=True), queue("a", 2), queue("b", 0))
    life = Life.of(World((pool,), views, (runs("borrower", 0, 2, "b"),), (asks("first", 2, "a"),)))
    life.cycle()
    life.arrive(asks("older", 2, "a", deadline_ms=0))
    life.cycle()
    assert life.running.keys() == {"uid-first"}


A, B = QueueView("a", quotas=(Quota("*", 4000),)), QueueView("b", quotas=(Quota("*", 4000),))


@pytest.mark.parametrize(
    ("queues", "of", "taken"),
    [
        ((A, B), ("b", "a"), False),
        ((QueueView("a"), B), ("b", "a"), False),
        ((A, QueueView("b")), ("b", "a"), True),
        ((QueueView("a"), QueueView("b")), ("b", "a"), True),
        ((A, B), ("b", "b"), True),
    ],
    ids=[
        "of another's quota",
        "as without quota",
        "what has no quota",
        "neither has one",
        "of its own queue",
    ],
)
def test_what_importance_alone_takes(queues: tuple[QueueView, ...], of: tuple[str, str], taken: bool) -> None:
    running = holding("r", NodeView("n", N.devices[:4]), 0, 1, 2, 3, queue=of[0])
    world = World((NodeView("n", N.devices[:4]),), queues, (running,), (asks("new", 4, of[1], priority=9),))
    assert Life.of(world).cycle() == taken


def test_who_waits_behind_a_gang_that_takes_the_last_device_is_told_that_devices_are_busy() -> None:
    """And not that it must keep apart from somebody: nothing here has affinity.apart."""
    nodes = [node(name, gpu(0)) for name in "ab"]
    gang = workload("gang", role(2), priority=1)
    decisions = cycle(nodes, gang, workload("late"), running=[holding("r", nodes[0], 0)])
    answers = {one.uid: deferred(one) for one in decisions if isinstance(one, Defer)}
    assert answers["uid-gang"].reasons[0].code == "Preempting"
    assert answers["uid-late"].reasons[0].code == "DevicesBusy"


def test_nobody_else_gets_a_part_of_the_places_while_the_one_who_leaves_them_takes_its_time() -> None:
    """Also where it is not known when it will be gone."""
    views = (QueueView("team", is_cohort=True), queue("a", 2), queue("b", 0))
    claimant = asks("new", 2, "a")
    life = Life.of(World((NodeView("n", N.devices[:2]),), views, (runs("r", 0, 1, "b"),), (claimant,)))
    life.cycle()
    life.running["uid-r"] = replace(life.running["uid-r"], ends_ms=None)
    life.arrive(asks("third", 1, "a", priority=0))
    for _ in range(3):
        life.cycle()
    assert life.running.keys() == {"uid-r"}
    life.withdraw("uid-r")
    life.cycle()
    assert life.running.keys() == {"uid-new"}


def test_places_next_to_one_that_keeps_apart_are_waited_for_until_it_has_left() -> None:
    alone = Affinity(apart=(("app", "db"),))
    running = holding("r", NodeView("n", N.devices[:2]), 0, 1, queue="a", affinity=alone)
    claimant = asks("new", 1, "a", priority=1, labels=(("app", "db"),))
    world = World((NodeView("n", N.devices[:2]),), (queue("a", 2),), (running,), (claimant,))
    life = Life.of(world, grace_ms=130_000)
    assert [life.cycle() for _ in range(4)] == [1, 0, 0, 0]
    assert life.running.keys() == {"uid-new"}
    assert life.useless.preemptions == 0
