"""Elastic workloads with several roles shrink and grow in proportion."""

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
