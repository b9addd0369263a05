"""What may not be preempted may not borrow: else what was borrowed would be lost."""

from tests.unit.scheduler.scenarios.facts import check, scenarios


@scenarios("""
# not beyond nominal, though there is room
nodes: n1 8 | queues: a 4 of team, b 4 of team | running: held 4 of a fixed | arriving: new 1 of a fixed
    → nothing, tells new NotPreemptible
# who may be preempted borrows
nodes: n1 8 | queues: a 4 of team, b 4 of team | running: held 4 of a fixed | arriving: new 1 of a
    → starts new
# it never fits where its queue owns less
nodes: n1 8 | queues: a 2 of team, b 4 of team | arriving: new 4 of a fixed
    → nothing, tells new NotPreemptible
# preemptible work beside it borrows in its stead
nodes: n1 8 | queues: a 4 of team, b 4 of team | running: held 4 of a | arriving: new 4 of a fixed
    → starts new
# and gives that back when the owner comes
nodes: n1 8 | queues: a 4 of team, b 4 of team | running: held 4 of a, keeps 4 of a fixed
    | arriving: own 4 of b
    → stops held, starts own
# it takes from less important work of its own queue
nodes: n1 4 | queues: a 4 of team, b 4 of team | running: held 4 of a | arriving: new 4 of a p1 fixed
    → stops held, starts new
# what its cohort owns, and no queue in it, it may have
nodes: n1 8 | queues: team 4 cohort, a 2 of team, b 2 of team | arriving: new 6 of a fixed
    → starts new
# but not what is another queue's
nodes: n1 8 | queues: team 4 cohort, a 2 of team, b 2 of team | arriving: new 7 of a fixed
    → nothing, tells new NotPreemptible
# counting what others like it have of that
nodes: n1 8 | queues: team 4 cohort, a 2 of team, b 2 of team | running: held 4 of b fixed
    | arriving: new 5 of a fixed, less 4 of a fixed
    → starts less, tells new NotPreemptible
# when one like it ends, the next starts
nodes: n1 8 | queues: a 4 of team, b 4 of team | running: held 4 of a fixed ends=62
    | arriving: new 2 of a fixed
    → by 1 min: nothing → by 4 min: starts new
# where no quota counts it is as free as others
nodes: n1 8 | arriving: new 8 fixed
    → starts new
# ranks that it can do without may not borrow either
nodes: n1 8 | queues: a 4 of team, b 4 of team | arriving: new 2-8x1 of a fixed
    → starts new, has new 4
""")
def test_what_may_not_be_preempted_does_not_borrow(facts: str) -> None:
    check(facts)
