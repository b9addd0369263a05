"""Gangs are put as close together as can be, and leave large gaps whole."""

from tests.unit.scheduler.scenarios.facts import check, scenarios


@scenarios("""
# all ranks on one node that takes them
nodes: n1..n3 8 | running: r1 5 on=n1, r2 2 on=n2 | arriving: new 3x2
    → starts new on n2
# the fullest such node
nodes: n1..n3 8 | running: r2 4 on=n2 | arriving: new 2x2
    → starts new on n2
# one rack rather than two, though the nodes of two are fuller
nodes: a1..a2 4 rack=a, b1..b2 4 rack=b | running: r1 2 on=a1, r2 2 on=b1 | arriving: new 3x2
    → starts new on a1+a2
# the fullest rack
nodes: a1..a2 4 rack=a, b1..b2 4 rack=b, c1..c2 4 rack=c | running: r1 4 on=b1 | arriving: new 2x2
    → starts new on b2
# as few blocks as can be
nodes: a1..a2 2 block=a, b1..b3 2 block=b, c1 2 block=c | arriving: new 4x2
    → starts new on b1+b2+b3+c1
# the last part goes where it leaves the least
nodes: a1..a4 1 block=a, b1..b3 1 block=b, c1..c2 1 block=c | arriving: new 6x1
    → starts new on a1+a2+a3+a4+c1+c2
# as few racks in one block, too
nodes: a1..a2 2 block=x rack=a, b1 2 block=x rack=b, c1 2 block=x rack=c, d1..d2 2 block=y rack=d
    | arriving: new 3x2
    → starts new on a1+a2+b1
# as few nodes as can be
nodes: n1..n4 4 | running: r1 3 on=n1, r2 3 on=n2, r3 2 on=n3 | arriving: new 6x1
    → starts new on n3+n4
# within a zone that it must stay in, one rack where that fits
nodes: a1..a2 2 zone=x rack=a, b1..b4 2 zone=x rack=b | running: r1 2 on=b1 | arriving: new 3x2 same=zone
    → starts new on b2+b3+b4
# a single rank that is bound to a rack goes to the fullest
nodes: a1..a2 4 rack=a, b1..b2 4 rack=b | running: r1 4 on=b1 | arriving: new 1 same=rack
    → starts new on b2
# who keeps its ranks apart does not get one node
nodes: n1..n3 4 | running: r1 2 on=n1, r2 2 on=n2, r3 4 on=n3 | arriving: new 2x1 label=app:db apart=app:db
    → starts new on n1+n2
# who wants to be spread is spread
nodes: a1..a2 4 rack=a, b1..b2 4 rack=b | arriving: new 2x1 spread=rack
    → starts new on a1+b1
# an elastic one rather has all its ranks than one node
nodes: n1..n2 4 | running: r1 2 on=n1, r2 3 on=n2 | arriving: new 1-3x1
    → by 0 min: starts new on n1+n2, has new 3
# also where there is not room for all
nodes: n1..n2 2 | arriving: new 2-6x1
    → by 0 min: starts new on n1+n2, has new 4
""")
def test_gangs_are_put_close_together(facts: str) -> None:
    check(facts)


@scenarios("""
# pairs share a rack, all are in one block
nodes: a1..a2 1 block=x rack=a, b1..b3 1 block=x rack=b, c1..c6 1 block=y rack=c
    | running: r1 1 on=c1, r2 1 on=c2, r3 1 on=c3
    | arriving: new 4x1 same=block slices=2:rack
    → starts new on a1+a2+b1+b2
# a rack with room for one rank only takes none
nodes: a1 1 rack=a, b1..b3 1 rack=b, c1..c2 1 rack=c | arriving: new 4x1 slices=2:rack
    → starts new on b1+b2+c1+c2
# it waits where slices would be torn apart, though there is room
nodes: a1..a2 1 rack=a, b1..b2 1 rack=b, c1..c2 1 rack=c | running: r1 1 on=a1, r2 1 on=b1
    | arriving: new 4x1 slices=2:rack
    → nothing, tells new TopologyDomain
# it never fits where no rack takes a slice
nodes: a1 1 rack=a, b1 1 rack=b | arriving: new 2x1 slices=2:rack
    → nothing, tells new TopologyDomain
# as few racks as can be
nodes: a1..a2 1 rack=a, b1..b4 1 rack=b | arriving: new 4x1 slices=2:rack
    → starts new on b1+b2+b3+b4
# the last slice may be smaller
nodes: a1..a2 1 rack=a, b1 1 rack=b | arriving: new 3x1 slices=2:rack
    → starts new on a1+a2+b1
""")
def test_slices_of_a_gang_stay_together(facts: str) -> None:
    check(facts)


@scenarios("""
# in one rack, though single devices of others are cheaper
nodes: a1..a2 1 rack=a, b1..b2 1 rack=b
    | running: r1 1 on=a1 age=90, r2 1 p9 on=a2, r3 1 on=b1 age=99, r4 1 on=b2 age=99
    | arriving: new 2x1 p5 slices=2:rack
    → stops r3 r4, starts new on b1+b2
# each slice in a rack of its own
nodes: a1..a2 1 rack=a, b1..b2 1 rack=b, c1..c2 1 rack=c
    | running: r1 1 on=a1, r2 1 on=a2, r3 1 on=b1, r4 1 p9 on=b2, r5 1 on=c1, r6 1 on=c2
    | arriving: new 4x1 p5 slices=2:rack
    → stops r1 r2 r5 r6, starts new on a1+a2+c1+c2
# what is free is used first
nodes: a1..a2 1 rack=a, b1..b2 1 rack=b, c1..c2 1 rack=c
    | running: r1 1 p9 on=a1, r3 1 on=b1, r4 1 on=b2 age=30, r5 1 on=c1
    | arriving: new 2x1 p5 slices=2:rack
    → stops r5, starts new on c1+c2, starts r5 on a2
# all in one block
nodes: a1..a2 1 block=x rack=a, b1..b2 1 block=x rack=b, c1..c2 1 block=y rack=c, d1..d2 1 block=y rack=d
    | running: r1 1 on=a1 age=10, r2 1 on=a2 age=10, r3 1 on=b1, r4 1 p9 on=b2, r5 1 on=c1, r6 1 on=c2,
    r7 1 on=d1, r8 1 on=d2
    | arriving: new 4x1 p5 same=block slices=2:rack
    → stops r5 r6 r7 r8, starts new on c1+c2+d1+d2
# nobody is stopped where the slices still would be torn apart
nodes: a1..a2 1 rack=a, b1..b2 1 rack=b | running: r1 1 on=a1, r2 1 p9 on=a2, r3 1 on=b1, r4 1 p9 on=b2
    | arriving: new 2x1 p5 slices=2:rack
    → nothing
# nor where one slice finds room and the other does not
nodes: a1..a2 1 rack=a, b1..b2 1 rack=b | running: r1 1 on=a1, r2 1 on=a2, r3 1 on=b1, r4 1 p9 on=b2
    | arriving: new 4x1 p5 slices=2:rack
    → nothing
# a gang of another one goes whole, and frees the slice
nodes: a1..a2 1 rack=a, b1..b2 1 rack=b | running: gang 2x1 on=a1+a2, r3 1 on=b1, r4 1 p9 on=b2
    | arriving: new 2x1 p5 slices=2:rack
    → stops gang, starts new on a1+a2
# by quota, too
nodes: a1..a2 1 rack=a, b1..b2 1 rack=b | queues: q 2 of team, lent 2 of team, other 0 of team
    | running: r1 1 of other on=a1, r2 1 of lent on=a2, r3 1 of other on=b1 age=90, r4 1 of other on=b2 age=90
    | arriving: new 2x1 of q slices=2:rack
    → stops r3 r4, starts new on b1+b2
""")
def test_room_for_a_slice_is_made_in_one_domain(facts: str) -> None:
    check(facts)
