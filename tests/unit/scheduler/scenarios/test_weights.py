"""A queue of weight 0 comes after all that have a weight, and what it owns is as safe as theirs."""

from tests.unit.scheduler.scenarios.facts import check, scenarios


@scenarios("""
# it goes after who has a weight, though it is older
nodes: n1 4 | queues: a 0 of team weight=0, b 0 of team, lent 4 of team | arriving: wa 4 of a, wb 4 of b
    → starts wb
# also after who uses much already
nodes: n1 8 | queues: a 0 of team weight=0, b 0 of team, lent 8 of team | running: rb 6 of b
    | arriving: wa 2 of a, wb 2 of b
    → starts wb
# within its nominal quota it goes as early as anybody
nodes: n1 4 | queues: a 4 of team weight=0, b 0 of team | arriving: wb 4 of b, wa 4 of a
    → starts wa
# what nobody else wants is its own
nodes: n1 4 | queues: a 0 of team weight=0, lent 4 of team | arriving: new 4 of a
    → starts new
# who has a weight takes all that it borrows
nodes: n1 4 | queues: a 0 of team weight=0, b 0 of team, lent 4 of team
    | running: a1 2 of a, a2 2 of a | arriving: b1 2 of b, b2 2 of b
    → stops a1 a2, starts b1 b2
# but nothing that it owns
nodes: n1 4 | queues: a 2 of team weight=0, b 0 of team, lent 2 of team
    | running: a1 2 of a, a2 2 of a | arriving: b1 2 of b p9, b2 2 of b p9
    → stops a2, starts b1
# it takes nothing that others borrow
nodes: n1 4 | queues: a 0 of team weight=0, b 0 of team, lent 4 of team | running: b1 2 of b, b2 2 of b
    | arriving: wa 2 of a
    → nothing
# and what it owns comes back to it
nodes: n1 4 | queues: a 2 of team weight=0, b 0 of team, lent 2 of team | running: b1 2 of b, b2 2 of b
    | arriving: wa 2 of a
    → stops b2, starts wa
# two without a weight come to equal shares
nodes: n1 4 | queues: a 0 of team weight=0, b 0 of team weight=0, lent 4 of team
    | running: a1 1 of a, a2 1 of a, a3 1 of a, a4 1 of a | arriving: b1 1 of b, b2 1 of b, b3 1 of b
    → stops a3 a4, starts b1 b2
# and take turns: who would have less goes first
nodes: n1 4 | queues: a 0 of team weight=0, b 0 of team weight=0, lent 4 of team | running: ra 2 of a
    | arriving: wa 2 of a, wb 2 of b
    → by 0 min: starts wb
""")
def test_a_queue_without_weight_yields_and_keeps_what_it_owns(facts: str) -> None:
    check(facts)
