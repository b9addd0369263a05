"""Strict queues keep their order; where a queue says so, older work displaces newer."""

from dataclasses import replace

from scheduler.core.model.types import Policy
from tests.unit.scheduler.scenarios.facts import TOPOLOGY, check, scenarios

POLICY = Policy(topology=TOPOLOGY)


@scenarios("""
# who fits passes who does not
nodes: n1 4 | running: held 2 | arriving: large 4, small 1
    → starts small
# but not in a strict queue
nodes: n1 4 | queues: a queueing=strict | running: held 2 | arriving: large 4 of a, small 1 of a
    → nothing, tells small BehindFirst
# also where the cohort says so
nodes: n1 4 | queues: team cohort queueing=strict, a of team | running: held 2
    | arriving: large 4 of a, small 1 of a
    → nothing, tells small BehindFirst
# other queues go on
nodes: n1 4 | queues: a queueing=strict, b | running: held 2 | arriving: large 4 of a, small 1 of b
    → starts small
# also where the quota holds the first back
nodes: n1 4 | queues: a 2 queueing=strict | running: held 1 of a | arriving: large 2 of a, small 1 of a
    → nothing, tells large QuotaExhausted, tells small BehindFirst
# more important ones come first
nodes: n1 4 | queues: a queueing=strict | running: held 2 | arriving: large 4 of a, small 1 of a p1
    → starts small
# one that can never start holds up nobody
nodes: n1 4 | queues: a queueing=strict | running: held 2 | arriving: huge 5 of a, small 1 of a
    → starts small
# once the first has started the next follow
nodes: n1 4 | queues: a queueing=strict | running: held 2 ends=62 | arriving: large 3 of a, small 1 of a
    → by 1 min: nothing → by 4 min: starts large small
# while others leave for the first, nobody passes it
nodes: n1 4 | queues: a queueing=strict | running: held 2 of a | arriving: large 4 of a p1, small 1 of a p1
    → by 0 min: stops held → by 4 min: stops held, starts large
""")
def test_nobody_passes_the_first_of_a_strict_queue(facts: str) -> None:
    check(facts)


@scenarios("""
# equals wait for each other
nodes: n1 4 | queues: a 4 | running: young 4 of a | arriving: older 4 of a age=90
    → nothing
# the older one displaces the newer one
nodes: n1 4 | queues: a 4 withinQueue=lowerOrNewerEqualPriority | running: young 4 of a
    | arriving: older 4 of a age=90
    → stops young, starts older
# not the other way round
nodes: n1 4 | queues: a 4 withinQueue=lowerOrNewerEqualPriority | running: older 4 of a
    | arriving: young 4 of a
    → nothing
# nor more important ones
nodes: n1 4 | queues: a 4 withinQueue=lowerOrNewerEqualPriority | running: young 4 of a p1
    | arriving: older 4 of a age=90
    → nothing
# nor of other queues
nodes: n1 4 | queues: a withinQueue=lowerOrNewerEqualPriority, b | running: young 4 of b
    | arriving: older 4 of a age=90
    → nothing
# the newest goes
nodes: n1 4 | queues: a 4 withinQueue=lowerOrNewerEqualPriority
    | running: young 2 of a age=10, newest 2 of a age=9 | arriving: older 2 of a age=90
    → stops newest, starts older
# in some queues nobody gives way
nodes: n1 4 | queues: a 4 withinQueue=never | running: low 4 of a | arriving: new 4 of a p9
    → nothing
""")
def test_older_work_displaces_newer_where_the_queue_says_so(facts: str) -> None:
    check(facts)


@scenarios("""
# the second of those that wait may be delayed
nodes: n1..n2 2 | running: r1 2 on=n1 ends=62, r2 1 on=n2 ends=64
    | arriving: first 2 ends=10, second 2, third 1 ends=5
    → by 1 min: starts third → by 4 min: starts third first → by 9 min: starts first second
""")
def test_room_is_held_for_the_first_that_waits(facts: str) -> None:
    check(facts)


@scenarios("""
# nor is the second
nodes: n1..n2 2 | running: r1 2 on=n1 ends=62, r2 1 on=n2 ends=64
    | arriving: first 2 ends=10, second 2, third 1 ends=5
    → by 1 min: nothing → by 3 min: starts first → by 6 min: starts first second
# who is through before both passes them
nodes: n1..n2 2 | running: r1 2 on=n1 ends=62, r2 1 on=n2 ends=64
    | arriving: first 2 ends=10, second 2, third 1 ends=3
    → by 1 min: starts third → by 2 min: starts third first → by 6 min: starts first second
""")
def test_room_is_held_for_as_many_as_the_policy_says(facts: str) -> None:
    check(facts, replace(POLICY, reserve=2))
