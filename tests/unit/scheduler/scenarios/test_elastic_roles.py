"""Elastic workloads shrink and grow in proportion: several roles of one, and several that start together."""

from tests.unit.scheduler.scenarios.facts import check, scenarios


@scenarios("""
# quota for fifty: 20, 20 and 10
nodes: n1 80 | queues: a 50 | arriving: new 20x1+10-30x1+5-15x1 of a
    → by 0 min: starts new, ranks new 20 20 10
# room for fifty
nodes: n1 50 | arriving: new 20x1+10-30x1+5-15x1
    → by 0 min: starts new, ranks new 20 20 10
# all of it where there is room
nodes: n1 80 | arriving: new 20x1+10-30x1+5-15x1
    → by 0 min: starts new, ranks new 20 30 15
# what comes free is given in proportion
nodes: n1 14 | running: old 6 ends=63 | arriving: new 2-8x1+1-4x1
    → by 0 min: starts new, ranks new 5 3 → by 10 min: starts new, ranks new 8 4
# a more important one takes of both roles
nodes: n1 12 | running: new 2-8x1+1-4x1 | arriving: claim 3 p5
    → starts claim, shrinks new to 9, ranks new 6 3
""")
def test_roles_shrink_and_grow_in_proportion(facts: str) -> None:
    check(facts)


@scenarios("""
# two of four on five devices
nodes: n1 5 | arriving: e1 1-4x1, e2 1-4x1
    → by 0 min: starts e1 e2, has e1 3, has e2 2
# two of four on six
nodes: n1 6 | arriving: e1 1-4x1, e2 1-4x1
    → by 0 min: starts e1 e2, has e1 3, has e2 3
# what is beyond the least of one keeps no other waiting
nodes: n1 4 | arriving: e1 1-4x1, e2 1-4x1
    → by 0 min: starts e1 e2, has e1 2, has e2 2
# not a rigid one either
nodes: n1 4 | arriving: e1 1-4x1, rigid 2
    → by 0 min: starts e1 rigid, has e1 2
# three of them
nodes: n1 8 | arriving: e1 2-4x1, e2 2-4x1, e3 2-4x1
    → by 0 min: starts e1 e2 e3, has e1 3, has e2 3, has e3 2
# within the quota of their queue
nodes: n1 8 | queues: a 4 | arriving: e1 1-4x1 of a, e2 1-4x1 of a
    → by 0 min: starts e1 e2, has e1 2, has e2 2
# to each the same part of what it could have
nodes: n1 8 | arriving: e1 1-9x1, e2 1-3x1
    → by 0 min: starts e1 e2, has e1 6, has e2 2
# over several nodes
nodes: n1..n2 4 | arriving: e1 1-8x1, e2 1-8x1
    → by 0 min: starts e1 on n1, starts e2 on n2, has e1 4, has e2 4
# a more important one has all of its ranks first
nodes: n1 5 | arriving: e1 1-4x1 p1, e2 1-4x1
    → by 0 min: starts e1 e2, has e1 4, has e2 1
# and keeps a less important one waiting
nodes: n1 4 | arriving: e1 1-4x1 p1, rigid 2
    → by 0 min: starts e1, has e1 4
# what runs already gives nothing to its equals
nodes: n1 4 | running: e1 1-4x1 | arriving: e2 1-4x1
    → nothing
# nobody gives where that is not enough
nodes: n1 4 | arriving: e1 1-4x1, rigid 4
    → by 0 min: starts e1, has e1 4
# what comes free later is shared, too
nodes: n1 6 | running: old 2 ends=62 | arriving: e1 1-4x1, e2 1-4x1
    → by 0 min: starts e1 e2, has e1 2, has e2 2 → by 12 min: starts e1 e2, has e1 3, has e2 3
# where room is held for another one by their ends, they keep what they were given
nodes: n1 5 | running: old 1 ends=62 | arriving: e1 1-4x1 ends=9, big 5, e2 1-4x1 ends=9
    → by 0 min: starts e1, has e1 4
""")
def test_equals_that_start_together_share_what_there_is(facts: str) -> None:
    check(facts)


@scenarios("""
# ranks that it can do without go before anybody is stopped
nodes: n1 4 | running: e1 1-3x1, low 1 | arriving: claim 2 p5
    → shrinks e1 to 1, starts claim
# one rank of each
nodes: n1 4 | running: e1 1-2x1, e2 1-2x1 | arriving: claim 2 p5
    → shrinks e1 to 1, shrinks e2 to 1, starts claim
# where that is not enough, one stops that loses less than others: elastic work is saved
nodes: n1 3 | running: e1 1-2x1, low 1 | arriving: claim 2 p5
    → stops e1, starts claim
# one shrinks and one stops that has just started
nodes: n1 3 | running: e1 1-2x1, low 1 age=1 | arriving: claim 2 p5
    → shrinks e1 to 1, stops low, starts claim
# all of them where all is wanted
nodes: n1 4 | running: r1 1, e1 1-2x1, r2 1 | arriving: claim 4 p5
    → stops r1 e1 r2, starts claim
# an elastic claimant takes its least
nodes: n1 3 | running: low 2, keeps 1 p9 | arriving: claim 1-3x2 p5
    → stops low, starts claim, has claim 1
""")
def test_an_elastic_one_shrinks_before_others_stop(facts: str) -> None:
    check(facts)
