"""Nodes that refuse, and workloads that must be beside others."""

from tests.unit.scheduler.scenarios.facts import check, scenarios


@scenarios("""
# who does not tolerate a taint goes elsewhere
nodes: n1 4 taint=team:blue, n2 4 | arriving: new 4
    → starts new on n2
# or waits, and is told why
nodes: n1 4 taint=team:blue, n2 4 | running: old 4 on=n2 | arriving: new 4
    → nothing, tells new DevicesBusy
# where all nodes refuse it never fits
nodes: n1 4 taint=team:blue | arriving: new 4
    → nothing, tells new NodeTaints
# who tolerates it starts there
nodes: n1 4 taint=team:blue, n2 4 | running: old 4 on=n2 | arriving: new 4 tolerates=team:blue
    → starts new on n1
# of any value
nodes: n1 4 taint=team:blue | arriving: new 4 tolerates=team
    → starts new on n1
# not of another one
nodes: n1 4 taint=team:blue | arriving: new 4 tolerates=team:red
    → nothing
# ranks without devices are refused, too
nodes: n1 4 taint=team:blue, n2 4 | running: old 4 on=n2 | arriving: new 0
    → starts new on n2
# nobody is stopped on a node that refuses
nodes: n1 4 taint=team:blue, n2 4 | running: low 4 on=n1 tolerates=team, same 4 p5 on=n2 | arriving: new 4 p5
    → nothing
# a gang is put where all of it is let in
nodes: n1 4 taint=team:blue, n2..n3 2 | arriving: new 2x2
    → starts new on n2+n3
""")
def test_a_node_refuses_who_does_not_tolerate_its_taints(facts: str) -> None:
    check(facts)


@scenarios("""
# it starts where the other is
nodes: n1..n3 4 | running: db 1 on=n2 label=app:db | arriving: new 1 beside=app:db
    → starts new on n2
# or waits, though there is room elsewhere
nodes: n1..n2 4 | running: db 4 on=n2 label=app:db | arriving: new 1 beside=app:db
    → nothing, tells new Affinity
# and while there is none
nodes: n1..n2 4 | arriving: new 1 beside=app:db
    → nothing, tells new Affinity
# it starts after the other
nodes: n1..n2 4 | arriving: new 1 beside=app:db, db 1 label=app:db
    → starts new db on n1
# each label has to be there
nodes: n1..n3 4 | running: db 1 on=n1 label=app:db, log 1 on=n2 label=app:log, db2 1 on=n3 label=app:db,
    log2 1 on=n3 label=app:log | arriving: new 1 beside=app:db beside=app:log
    → starts new on n3
# all ranks have to be beside
nodes: n1..n3 4 | running: db 3 on=n1 label=app:db, db2 3 on=n2 label=app:db | arriving: new 2x1 beside=app:db
    → starts new on n1+n2
# who asks for its own label is the first, and its ranks need not look for each other
nodes: n1..n2 4 | arriving: new 2x4 label=app:db beside=app:db
    → starts new on n1+n2
# less important work makes room for it there, and nowhere else
nodes: n1..n2 4 | running: db 2 p5 on=n1 label=app:db, low 2 on=n1, idle 4 on=n2
    | arriving: new 2 p5 beside=app:db
    → stops low, starts new on n1
""")
def test_who_must_be_beside_another_starts_there_or_waits(facts: str) -> None:
    check(facts)
