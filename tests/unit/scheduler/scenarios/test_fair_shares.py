"""Borrowers among themselves come to equal weighted shares, and children claim what their cohort owns."""

from tests.unit.scheduler.scenarios.facts import check, scenarios


@scenarios("""
# one by one: 8 and 0 become 4 and 4
nodes: n1 8 | queues: a 0 of team, b 0 of team, lent 8 of team
    | running: a1 1 of a, a2 1 of a, a3 1 of a, a4 1 of a, a5 1 of a, a6 1 of a, a7 1 of a, a8 1 of a
    | arriving: b1 1 of b, b2 1 of b, b3 1 of b, b4 1 of b, b5 1 of b
    → stops a5 a6 a7 a8, starts b1 b2 b3 b4
# also two of two
nodes: n1 2 | queues: a 0 of team, b 0 of team, lent 2 of team | running: a1 1 of a, a2 1 of a
    | arriving: b1 1 of b
    → stops a2, starts b1
# by weight: one to three
nodes: n1 4 | queues: a 0 of team weight=3, b 0 of team, lent 4 of team
    | running: a1 1 of a, a2 1 of a, a3 1 of a, a4 1 of a | arriving: b1 1 of b, b2 1 of b
    → stops a4, starts b1
# five and nothing of eight, the rest is taken: four and four
nodes: n1 5 | queues: a 1 of team, b 1 of team, lent 3 of team
    | running: a1 1 of a, a2 1 of a, a3 1 of a, a4 1 of a, a5 1 of a | arriving: b1 2 of b, b2 1 of b
    → stops a4 a5, starts b1
# a gang that would have more than the one it takes from waits
nodes: n1 8 | queues: a 0 of team, b 0 of team, lent 8 of team | running: a1 4 of a, a2 4 of a
    | arriving: b1 5 of b
    → nothing
# the most greedy gives first
nodes: n1 8 | queues: a 0 of team, b 0 of team, c 0 of team, lent 8 of team
    | running: a1 1 of a, a2 1 of a, c1 2 of c, c2 2 of c, c3 2 of c | arriving: b1 2 of b
    → stops c3, starts b1
# nobody loses for it what it has just started
nodes: n1 2 | queues: a 0 of team, b 0 of team, lent 2 of team | running: a1 1 of a age=2, a2 1 of a age=1
    | arriving: b1 1 of b
    → by 2 min: nothing → by 6 min: stops a1, starts b1
# not where the queue or its cohort does not want it
nodes: n1 2 | queues: team cohort fairSharing=false, a 0 of team, b 0 of team, lent 2 of team
    | running: a1 1 of a, a2 1 of a | arriving: b1 1 of b
    → nothing
# cohort by cohort: left and right get half each, however many queues they have
nodes: n1 4 | queues: left of all cohort, right of all cohort, lent 4 of all, a 0 of left, b 0 of left,
    c 0 of right | running: a1 1 of a, b1 1 of b, a2 1 of a, b2 1 of b
    | arriving: c1 1 of c, c2 1 of c, c3 1 of c
    → stops a2 b2, starts c1 c2
# higher priority of a borrower does not keep it
nodes: n1 2 | queues: a 0 of team, b 0 of team, lent 2 of team | running: a1 1 of a p5, a2 1 of a p5
    | arriving: b1 1 of b
    → stops a2, starts b1
""")
def test_borrowers_come_to_equal_shares(facts: str) -> None:
    check(facts)


@scenarios("""
# a child without quota claims what its cohort owns
nodes: n1 8 | queues: left 4 of all cohort, right 4 of all cohort, a of left, b of right
    | running: old 4 of b, more 4 of b | arriving: new 4 of a
    → stops more, starts new
# against a queue with quota of its own, too
nodes: n1 8 | queues: left 4 of all cohort, a of left, b 4 of all | running: old 4 of b, more 4 of b
    | arriving: new 4 of a
    → stops more, starts new
# two levels up
nodes: n1 8 | queues: top 4 of all cohort, mid of top cohort, a of mid, b 4 of all
    | running: old 4 of b, more 4 of b | arriving: new 4 of a
    → stops more, starts new
# not more than that
nodes: n1 8 | queues: left 4 of all cohort, a of left, b 4 of all | running: old 8 of b | arriving: new 5 of a
    → nothing
# nor what its cohort has lent to its sibling for the sibling's own quota
nodes: n1 8 | queues: left of all cohort, s 4 of left, a of left, b 4 of all
    | running: rs 4 of s, old 4 of b | arriving: new 4 of a
    → nothing
""")
def test_children_without_quota_claim_what_their_cohort_owns(facts: str) -> None:
    check(facts)
