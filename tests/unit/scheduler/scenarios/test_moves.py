"""Room that is there but scattered is put together by moving who may be moved."""

from dataclasses import replace

from scheduler.core.model.types import Policy
from tests.unit.scheduler.scenarios.facts import TOPOLOGY, check, scenarios

POLICY = Policy(topology=TOPOLOGY)


@scenarios("""
# two halves on two devices of a node, for a larger share
nodes: n1 2 | running: r1 0.5 on=n1 at=0 movable, r2 0.5 on=n1 at=1 movable | arriving: new 0.7
    → moves r1, starts new on n1
# for a whole device
nodes: n1 2 | running: r1 0.5 on=n1 at=0 movable, r2 0.5 on=n1 at=1 movable | arriving: new 1
    → moves r1, starts new on n1
# on two nodes
nodes: n1..n2 1 | running: r1 0.5 on=n1 movable, r2 0.5 on=n2 movable | arriving: new 1
    → moves r1, starts new on n1
# the one that may be moved
nodes: n1 2 | running: r1 0.5 on=n1 at=0 movable, r2 0.5 on=n1 at=1 | arriving: new 1
    → moves r1, starts new on n1
# the smaller one
nodes: n1 2 | running: r1 0.3 on=n1 at=0 movable, r2 0.5 on=n1 at=1 movable | arriving: new 0.8
    → moves r1, starts new on n1
# four halves on four devices, for two whole ones
nodes: n1 4 | running: r1 0.5 on=n1 at=0 movable, r2 0.5 on=n1 at=1 movable, r3 0.5 on=n1 at=2 movable,
    r4 0.5 on=n1 at=3 movable | arriving: new 2
    → moves r1 r2, starts new on n1
# nobody moves where that brings nothing
nodes: n1 2 | running: r1 0.6 on=n1 at=0 movable, r2 0.6 on=n1 at=1 movable | arriving: new 0.7
    → nothing
# nor for who may not be moved
nodes: n1 2 | running: r1 0.5 on=n1 at=0, r2 0.5 on=n1 at=1 | arriving: new 1
    → nothing
# nor for who has just started
nodes: n1 2 | running: r1 0.5 on=n1 at=0 movable age=1, r2 0.5 on=n1 at=1 movable age=1 | arriving: new 1
    → by 3 min: nothing → by 6 min: moves r1, starts new on n1
""")
def test_shares_are_put_on_one_device_for_who_waits(facts: str) -> None:
    check(facts)


@scenarios("""
# a gang on two nodes is put on one
nodes: n1..n2 2 | running: gang 2x1 on=n1+n2 at=0 movable | arriving: new 2
    → moves gang, starts new on n1
# for a gang that must be on one node together
nodes: a 2 rack=a, b 2 rack=b | running: gang 2x1 on=a+b at=0 movable | arriving: new 2x1 same=rack
    → moves gang, starts new on a
# it keeps the place that is not wanted, whatever else runs there
nodes: n1 2, n2 3 | running: gang 2x1 on=n1+n2 at=0 movable, r1 1 on=n2 at=1 | arriving: new 2
    → moves gang, starts new on n1
# all of it goes to a third node where that is free
nodes: n1..n2 2, n3 4 | running: gang 2x1 on=n1+n2 at=0 movable, r1 2 on=n3 | arriving: new 2x2
    → moves gang, starts new on n1+n2
# not where it must stay as it is
nodes: n1..n2 2 | running: gang 2x1 on=n1+n2 at=0 | arriving: new 2
    → nothing
# not where it keeps its ranks apart
nodes: n1..n2 2 | running: gang 2x1 on=n1+n2 at=0 movable label=app:db apart=app:db | arriving: new 2
    → nothing
# it stays near whom it must be beside
nodes: n1..n2 2 | running: db 1 on=n1 at=0 label=app:db, gang 1 on=n1 at=1 movable beside=app:db
    | arriving: new 2x1 same=island
    → nothing
""")
def test_a_gang_makes_room_and_keeps_what_is_not_wanted(facts: str) -> None:
    check(facts)


@scenarios("""
# it waits
nodes: n1 2 | running: r1 0.5 on=n1 at=0 movable, r2 0.5 on=n1 at=1 movable | arriving: new 1
    → nothing
""")
def test_nobody_is_moved_where_the_policy_says_so(facts: str) -> None:
    check(facts, replace(POLICY, defragment=False))
