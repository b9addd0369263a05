"""Turns in the background, as lines of batches have them: only where nobody else waits, and never all."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from inference.core.fair_turns import BACKGROUND_PART, FairTurns, Waiter


def behind(tenant: str = "batch", turns: int = 1) -> Waiter:
    return Waiter(tenant, turns, 1, is_background=True)


def filled(limit: int) -> tuple[FairTurns, list[Waiter]]:
    """Turns of which the background has all that it may have, and one of it that waits."""
    turns = FairTurns(1)
    turns.limit = limit
    running = []
    while turns.ask(one := behind(), 0.0):
        running.append(one)
    return turns, running


def test_the_background_leaves_room_for_who_comes() -> None:
    turns, running = filled(8)
    assert len(running) == 8 - 8 // BACKGROUND_PART
    assert all(turns.ask(Waiter("online", 1, 1), 0.0) for _ in range(2))
    assert not turns.ask(Waiter("online", 1, 1), 0.0)


def test_who_waits_in_the_foreground_goes_first() -> None:
    turns, running = filled(8)
    online = [Waiter("online", 1, 1) for _ in range(4)]
    assert [turns.ask(one, 0.0) for one in online] == [True, True, False, False]
    turns.end(running.pop(), 1.0)
    assert turns.next() is online[2]
    assert turns.next() is None
    turns.end(running.pop(), 1.0)
    assert turns.next() is online[3]
    for one in online:
        turns.end(one, 1.0)
    following = turns.next()
    assert following is not None
    assert following.is_background


def test_one_that_asks_for_more_than_there_is_begins_alone() -> None:
    turns = FairTurns(1)
    turns.limit = 4
    assert turns.ask(behind(turns=9), 0.0)
    assert not turns.ask(behind(), 0.0)


def test_a_tenants_share_does_not_shrink_for_the_background() -> None:
    turns, running = filled(8)
    for one in running:
        turns.end(one, 1.0)
    assert all(turns.ask(Waiter("online", 1, 1), 0.0) for _ in range(8))


_moves = st.lists(
    st.tuples(st.sampled_from(["ask", "end", "leave"]), st.sampled_from("ab"), st.booleans()), max_size=80
)


@given(_moves)
def test_nobody_is_left_out_and_the_background_never_has_the_last_turns(
    moves: Sequence[tuple[str, str, bool]],
) -> None:
    turns, running, waiting = FairTurns(1), list[Waiter](), list[Waiter]()
    turns.limit = 8

    def began(waiter: Waiter) -> None:
        running.append(waiter)
        if waiter.is_background:
            assert not [one for one in waiting if not one.is_background]
            assert turns.open <= 6

    def follow() -> None:
        while (one := turns.next()) is not None:
            waiting.remove(one)
            began(one)

    for what, tenant, is_background in moves:
        if what == "ask":
            waiter = Waiter(tenant, 1, 1, is_background)
            if turns.ask(waiter, 0.0):
                began(waiter)
            else:
                waiting.append(waiter)
        elif what == "end" and running:
            turns.end(running.pop(0), 1.0)
            follow()
        elif what == "leave" and waiting:
            turns.leave(waiting.pop(0))
        assert turns.waiting == len(waiting)
        assert turns.open == len(running)
    while running:
        turns.end(running.pop(), 1.0)
        follow()
    assert not waiting
    assert turns.is_idle
