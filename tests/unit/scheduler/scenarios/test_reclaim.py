"""What a queue lent comes back: from whom, how much of it, and for good."""

from tests.unit.scheduler.scenarios.facts import check, scenarios


@scenarios("""
# although the borrower is older and as important
nodes: n1 4 | queues: a 4 of team, b 0 of team | running: old 4 of b | arriving: new 4 of a
    → stops old, starts new
# although the owner has used more lately
nodes: n1 4 | queues: a 4 of team used=5000, b 0 of team | running: old 4 of b | arriving: new 4 of a
    → stops old, starts new
# although the owner has no weight
nodes: n1 4 | queues: a 4 of team weight=0, b 0 of team weight=9 | running: old 4 of b
    | arriving: new 4 of a
    → stops old, starts new
# although others of the borrower's queue wait for the same places
nodes: n1 4 | queues: a 4 of team, b 0 of team | running: old 4 of b | arriving: next 2 of b p9, new 4 of a
    → stops old, starts new
# although others of a third queue could borrow them
nodes: n1 4 | queues: a 4 of team, b 0 of team, c 0 of team | running: old 4 of b
    | arriving: other 1 of c p9, new 4 of a
    → stops old, starts new
# a gang over two nodes from two borrowers
nodes: n1 2, n2 2 | queues: a 4 of team, b 0 of team, c 0 of team | running: rb 2 of b, rc 2 of c
    | arriving: new 2x2 of a
    → stops rb rc, starts new
# what is left over of a borrower that goes whole is used, and the owner still starts
nodes: n1 4 | queues: a 2 of team, b 0 of team, c 2 of team | running: old 4 of b
    | arriving: new 2 of a, more 2 of b
    → stops old, starts new more
""")
def test_the_owner_starts_on_what_was_taken_back_for_it(facts: str) -> None:
    check(facts)


@scenarios("""
# however important it is
nodes: n1 4 | queues: a 4 of team, b 0 of team | running: old 4 of b p9 | arriving: new 4 of a
    → stops old, starts new
# the least important first
nodes: n1 4 | queues: a 4 of team, b 0 of team | running: high 2 of b p9, low 2 of b p8
    | arriving: new 2 of a
    → stops low, starts new
# the least important first, of whichever queue it is
nodes: n1 4 | queues: a 4 of team, b 0 of team, c 0 of team | running: rb 2 of b p3, rc 2 of c p2
    | arriving: new 2 of a
    → stops rc, starts new
# of equals the newest
nodes: n1 4 | queues: a 4 of team, b 0 of team | running: older 2 of b age=90, newer 2 of b age=20
    | arriving: new 2 of a
    → stops newer, starts new
# also for what its cohort owns and no queue in it
nodes: n1 4 | queues: left 4 of all cohort, right of all cohort, a of left, b of right
    | running: old 4 of b p9
    | arriving: new 4 of a
    → stops old, starts new
# not what a cohort beside it owns
nodes: n1 4 | queues: left 2 of all cohort, right 2 of all cohort, a of left, b of right
    | running: rb 2 of b p0
    | arriving: new 4 of a p9
    → nothing
# not more than was lent
nodes: n1 4 | queues: a 2 of team, b 2 of team | running: one 1 of b, two 1 of b, three 1 of b
    | arriving: new 3 of a
    → nothing
# and what was lent
nodes: n1 4 | queues: a 2 of team, b 2 of team | running: one 1 of b, two 1 of b age=30, three 1 of b age=20
    | arriving: new 2 of a
    → stops three, starts new
# while others of the owner wait
nodes: n1 4 | queues: a 2 of team, b 2 of team | running: old 4 of b p9
    | arriving: more 4 of a p9, new 2 of a
    → stops old, starts new
""")
def test_borrowed_devices_come_back_from_whoever_has_them(facts: str) -> None:
    check(facts)


@scenarios("""
# though the borrower has other devices than the owner wants
nodes: n1 4 model=H100, n2 4 model=A100 | queues: a 4 of team, b 0 of team | running: old 4 of b on=n1
    | arriving: new 1 of a model=A100
    → stops old, starts new on n2
# no more than it needs
nodes: n1 4 model=H100, n2 4 model=A100 | queues: a 4 of team, b 0 of team
    | running: r1 2 of b on=n1, r2 2 of b on=n1 age=30 | arriving: new 1 of a model=A100
    → stops r2, starts new on n2
# an elastic one gives ranks
nodes: n1 4 model=H100, n2 4 model=A100 | queues: a 4 of team, b 0 of team | running: old 1-4x1 of b on=n1
    | arriving: new 1 of a model=A100
    → shrinks old to 3, starts new on n2
# not where the devices that it wants are in use
nodes: n1 4 model=H100, n2 1 model=A100 | queues: a 4 of team, b 0 of team, c | running: old 4 of b on=n1,
    keeps 1 of c p9 on=n2 | arriving: new 1 of a model=A100
    → nothing
# not for who would borrow itself
nodes: n1 4 model=H100, n2 4 model=A100 | queues: a 0 of team, b 0 of team, lent 4 of team
    | running: old 4 of b on=n1 | arriving: new 1 of a p9 model=A100
    → nothing
# nor where it may not reclaim
nodes: n1 4 model=H100, n2 4 model=A100 | queues: a 4 of team reclaimWithinCohort=never, b 0 of team
    | running: old 4 of b on=n1 | arriving: new 1 of a p9 model=A100
    → nothing
""")
def test_quota_comes_back_from_devices_of_any_model(facts: str) -> None:
    check(facts)


@scenarios("""
# before less important work of the owner
nodes: n1 12 | queues: a 6 of team, b 6 of team
    | running: own 3 of a p-1, one 3 of b, two 3 of b, three 3 of b age=20 | arriving: new 3 of a p1
    → stops three, starts new
# also when the borrower is more important than both
nodes: n1 4 | queues: a 4 of team, b 0 of team | running: own 2 of a p-1, old 2 of b p9
    | arriving: new 2 of a
    → stops old, starts new
# and when the owner's is cheaper, for it is newer
nodes: n1 4 | queues: a 4 of team, b 0 of team | running: own 2 of a p-1 age=10, old 2 of b age=99
    | arriving: new 2 of a
    → stops old, starts new
# one from each borrower that has one too many, and none from others
nodes: n1 8 | queues: a 4 of team, b 2 of team, c 2 of team
    | running: b1 2 of b, b2 2 of b age=20, c1 2 of c, c2 2 of c age=20 | arriving: new 4 of a
    → stops b2 c2, starts new
# a queue that borrows nothing gives nothing
nodes: n1 8 | queues: a 4 of team, b 2 of team, c 2 of team
    | running: b1 2 of b p-9, c1 2 of c, c2 2 of c age=20, c3 2 of c age=10 | arriving: new 4 of a
    → stops c2 c3, starts new
""")
def test_who_borrows_gives_way_first_and_gives_what_it_borrowed(facts: str) -> None:
    check(facts)


@scenarios("""
# a part of it is borrowed
nodes: n1 4 | queues: a 2 of team, b 2 of team | running: gang 2x2 of b | arriving: new 2 of a
    → stops gang, starts new
# over two nodes
nodes: n1..n2 2 | queues: a 2 of team, b 2 of team | running: gang 2x2 of b p9 | arriving: new 2 of a
    → stops gang, starts new
# what its queue may have of it starts again
nodes: n1 8 | queues: a 2 of team, b 6 of team | running: gang 8 of b | arriving: new 2 of a, small 6 of b
    → stops gang, starts new small
# not when it is smaller work of its queue that borrows
nodes: n1 8 | queues: a 2 of team, b 6 of team | running: gang 6 of b, small 2 of b
    | arriving: new 2 of a
    → stops small, starts new
# an elastic one gives ranks instead
nodes: n1 4 | queues: a 2 of team, b 2 of team | running: gang 1-4x1 of b | arriving: new 2 of a
    → shrinks gang to 2, starts new
""")
def test_a_rigid_gang_is_no_way_to_keep_what_is_borrowed(facts: str) -> None:
    check(facts)


@scenarios("""
# two of each
nodes: n1 8 | queues: a 4 of team, b 4 of team
    | running: own 2 of a, b1 2 of b, b2 2 of b, b3 2 of b age=20 | arriving: new 4 of a p1
    → stops own b3, starts new
# on the same node as the borrower
nodes: n1 4, n2 4 | queues: a 4 of team, b 4 of team
    | running: own 2 of a on=n1, b1 2 of b on=n1, b2 4 of b p1 on=n2 | arriving: new 4 of a p1
    → stops own b1, starts new
# own work alone where that is enough
nodes: n1 8 | queues: a 4 of team, b 4 of team | running: own 4 of a, b1 4 of b | arriving: new 4 of a p1
    → stops own, starts new
# not where own work as important would have to go
nodes: n1 8 | queues: a 4 of team, b 4 of team | running: own 2 of a, b1 2 of b, b2 2 of b, b3 2 of b
    | arriving: new 4 of a
    → nothing
""")
def test_own_work_and_a_borrower_make_room_together(facts: str) -> None:
    check(facts)


@scenarios("""
# from less important work only
nodes: n1 4 | queues: a 4 of team reclaimWithinCohort=lowerPriority, b 0 of team
    | running: high 2 of b p1, low 2 of b p-1
    | arriving: new 4 of a, small 2 of a
    → stops low, starts small
# from nobody
nodes: n1 4 | queues: a 4 of team reclaimWithinCohort=never, b 0 of team | running: old 4 of b p-1
    | arriving: new 4 of a p9
    → nothing
# own work still gives way
nodes: n1 4 | queues: a 4 of team reclaimWithinCohort=never, b 0 of team | running: own 2 of a, old 2 of b
    | arriving: new 2 of a p9
    → stops own, starts new
""")
def test_a_queue_may_leave_what_it_lent(facts: str) -> None:
    check(facts)


@scenarios("""
# equal shares take nothing from more important borrowers that would take it back from a third
nodes: n1 3 | queues: a 0 of team borrowWithinCohort=lowerPriority, b 0 of team, lent 3 of team
    | running: r1 1 of a p9, r2 1 of a p9, r3 1 of a p9 | arriving: new 1 of b
    → nothing
""")
def test_borrowers_that_take_by_priority_do_not_take_back_by_share(facts: str) -> None:
    check(facts)
