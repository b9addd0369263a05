"""Who is next: within nominal before borrowing, then importance, then the share that a queue would have."""

from tests.unit.scheduler.scenarios.facts import check, scenarios


@scenarios("""
# one fits what its queue owns, one would borrow
nodes: n1 8 | queues: a 4 of team, b 4 of team | running: held 4 of a | arriving: more 4 of a, own 4 of b
    → starts own
# also where the borrower is more important
nodes: n1 8 | queues: a 4 of team, b 4 of team | running: held 4 of a p9
    | arriving: more 4 of a p9, own 4 of b
    → starts own
# also across cohorts, when the pool is too small for both
nodes: n1 4 | queues: a 0 of left, x 4 of left, b 4 of right | arriving: more 4 of a p9, own 4 of b
    → starts own
# with what is left, the borrower starts too
nodes: n1 8 | queues: a 2 of team, b 4 of team, c 2 of team | arriving: more 4 of a p9, own 4 of b
    → starts own more
# who borrows from its own cohort goes before who borrows from another one
nodes: n1 8
    | queues: left of all cohort, right of all cohort, a 0 of left, x 4 of left, b 0 of right, y 4 of right
    | running: big 4 of b p5 | arriving: far 4 of b p5, near 4 of a
    → starts near
# a queue without any quota owes nobody
nodes: n1 4 | queues: a 0 of team, b 4 of team | arriving: more 4 of a p5, free 4
    → starts free
# within one queue importance alone counts, whoever borrows
nodes: n1 4 | queues: a 2 of team, b 2 of team | arriving: small 2 of a, large 4 of a p5
    → starts large
""")
def test_who_keeps_to_its_nominal_quota_goes_first(facts: str) -> None:
    check(facts)


@scenarios("""
# both fit
nodes: n1 8 | queues: a 0 of team, b 0 of team, lent 8 of team | running: ra 1 of a, rb 2 of b
    | arriving: wa 4 of a, wb 1 of b
    → by 0 min: starts wa wb
# a has less, and would have more
nodes: n1 7 | queues: a 0 of team, b 0 of team, lent 7 of team | running: ra 1 of a, rb 2 of b
    | arriving: wa 4 of a, wb 1 of b
    → by 0 min: starts wb
# four devices of weight four are less than two of weight one
nodes: n1 4 | queues: a 0 of team weight=4, b 0 of team, lent 4 of team | arriving: wb 2 of b, wa 4 of a
    → by 0 min: starts wa
# cohort by cohort: left would have 3, right 4
nodes: n1 6 | queues: left of all cohort, right of all cohort, lent 6 of all, a 0 of left, b 0 of right
    | running: ra 1 of a | arriving: wb 4 of b, wa 2 of a
    → by 0 min: starts wa
""")
def test_the_share_that_a_queue_would_have_counts(facts: str) -> None:
    check(facts)


@scenarios("""
# devices are in use, though a gang that keeps to itself has just been given some
nodes: n1..n2 1 | running: r1 1 on=n1 | arriving: gang 2x1 p5, job 1
    → stops r1, starts gang, tells job DevicesBusy
# its quota, though another one waits for devices
nodes: n1 4 | queues: a 2, b | running: ra 2 of a, rb 2 of b | arriving: wb 1 of b, wa 1 of a
    → nothing, tells wa QuotaExhausted, tells wb DevicesBusy
""")
def test_who_waits_is_told_what_keeps_it_waiting(facts: str) -> None:
    check(facts)


@scenarios("""
# the first finds its quota lent, another one takes it back whole, the next like the first starts at once
nodes: n1 6 model=H100, n2 4 model=A100 | queues: a 2 of team, b 0 of team, lent 4 of team
    | running: gang 2x3 of b on=n1
    | arriving: x1 3 of a model=A100 age=3, y 2 of a model=H100 age=2, x2 3 of a model=A100 age=1
    → by 0 min: stops gang, starts x2
""")
def test_who_is_like_one_that_waits_is_looked_at_anew_when_something_comes_free(facts: str) -> None:
    check(facts)
