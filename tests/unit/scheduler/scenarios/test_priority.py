"""Priority orders within a queue; what other queues own is out of its reach."""

from tests.unit.scheduler.scenarios.facts import check, scenarios


@scenarios("""
# what another queue runs on its own quota stays, however important the newcomer is
nodes: n1 8 | queues: a 4 of team, b 4 of team | running: ra 4 of a, rb 4 of b | arriving: new 4 of a p9
    → stops ra, starts new
# also where the newcomer's queue has nothing running
nodes: n1 8 | queues: a 8 of team, b 4 of team | running: rb 4 of b, rc 4 of b | arriving: new 8 of a p9
    → nothing
# also across cohorts
nodes: n1 4 | queues: a 4 of left, b 4 of right | running: rb 4 of b | arriving: new 4 of a p9
    → nothing
# what is lent within another cohort is that cohort's
nodes: n1 4 | queues: a 4 of left, b 2 of right, c 2 of right | running: rb 4 of b | arriving: new 4 of a p9
    → nothing
# a queue without quota takes nothing from a queue that has one
nodes: n1 4 | queues: b 4 of team | running: rb 4 of b | arriving: new 4 p9
    → nothing
# between queues without quotas priority alone counts
nodes: n1 4 | queues: b | running: rb 4 of b | arriving: new 4 p9
    → stops rb, starts new
# who keeps to its quota takes from those who have none, by priority
nodes: n1 4 | queues: a 4 of team, b | running: rb 4 of b | arriving: new 4 of a p9
    → stops rb, starts new
# who would borrow takes nothing, in its own queue neither
nodes: n1 4 | queues: a 2 of team, b 2 of team | running: ra 1 of a p-1, rb 1 of b p-1
    | arriving: new 3 of a p1
    → nothing
# what its queue borrows already may change hands within it
nodes: n1 4 | queues: a 0 of team, b 4 of team | running: ra 4 of a | arriving: new 4 of a p1
    → stops ra, starts new
# the least important of the own queue gives way
nodes: n1 4 | queues: a 4 of team | running: low 2 of a, mid 2 of a p1 | arriving: new 2 of a p2
    → stops low, starts new
""")
def test_priority_stays_within_the_queue(facts: str) -> None:
    check(facts)


@scenarios("""
# who borrows preempts other borrowers of less importance, where its queue says so
nodes: n1 8 | queues: a 0 of team borrowWithinCohort=lowerPriority, b 0 of team, c 8 of team
    | running: rb 8 of b age=1 | arriving: new 4 of a p5
    → by 2 min: stops rb, starts new
# said for the cohort it holds for its queues
nodes: n1 8 | queues: team cohort borrowWithinCohort=lowerPriority, a 0 of team, b 0 of team, c 8 of team
    | running: rb 8 of b age=1 | arriving: new 4 of a p5
    → by 2 min: stops rb, starts new
# a queue may say otherwise
nodes: n1 8 | queues: team cohort borrowWithinCohort=lowerPriority, a 0 of team borrowWithinCohort=never,
    b 0 of team, c 8 of team | running: rb 8 of b p4 age=1 | arriving: new 8 of a p5
    → by 2 min: nothing
# not from those above the ceiling
nodes: n1 8 | queues: a 0 of team borrowWithinCohort=lowerPriority borrowMaxPriority=2, b 0 of team,
    c 8 of team | running: rb 4 of b p3 age=1, low 4 of b p2 age=1 | arriving: new 4 of a p5
    → by 2 min: stops low, starts new
# and never what another queue owns
nodes: n1 8 | queues: a 0 of team borrowWithinCohort=lowerPriority, b 8 of team
    | running: rb 8 of b | arriving: new 4 of a p5
    → nothing
""")
def test_borrowers_preempt_borrowers_where_their_cohort_lets_them(facts: str) -> None:
    check(facts)


@scenarios("""
# safe from more important work of its own queue until its least run time has passed
nodes: n1 4 | queues: a 4 of team preemptMin=10 | running: old 4 of a age=4
    | arriving: new 4 of a p9
    → by 5 min: nothing → by 7 min: stops old, starts new
# the whole cohort may say so
nodes: n1 4 | queues: team cohort preemptMin=10, a 4 of team | running: old 4 of a age=4
    | arriving: new 4 of a p9
    → by 5 min: nothing → by 7 min: stops old, starts new
# those that have run for long enough go first
nodes: n1 4 | queues: a 4 of team preemptMin=10 | running: young 2 of a age=4, ripe 2 of a p1 age=20
    | arriving: new 2 of a p9
    → by 2 min: stops ripe, starts new
# where nothing is said, more important work does not wait
nodes: n1 4 | queues: a 4 of team | running: old 4 of a age=1 | arriving: new 4 of a p9
    → by 1 min: stops old, starts new
# safe from the owner until the least run time has passed
nodes: n1 4 | queues: a 4 of team, b 0 of team reclaimMin=10 | running: old 4 of b age=4
    | arriving: new 4 of a p9
    → by 5 min: nothing → by 7 min: stops old, starts new
# equals wait for five minutes where nothing is said
nodes: n1 4 | queues: a 4 of team, b 0 of team | running: old 4 of b age=1 | arriving: new 4 of a
    → by 3 min: nothing → by 6 min: stops old, starts new
# and not at all where the borrower's queue says zero
nodes: n1 4 | queues: a 4 of team, b 0 of team reclaimMin=0 | running: old 4 of b age=1 | arriving: new 4 of a
    → by 1 min: stops old, starts new
""")
def test_a_least_run_time_protects_from_everybody(facts: str) -> None:
    check(facts)
