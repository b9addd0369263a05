"""Which engines stay when there are to be fewer, and what new ones are called."""

from hypothesis import given
from hypothesis import strategies as st

from inference.core.autoscaling.choice import Candidate, choose_replicas


def name(index: int) -> str:
    return f"chat-{index}"


def engine(index: int, in_flight: int | None = 0, ready: bool = True, **facts: bool) -> Candidate:
    return Candidate(name(index), index, ready, in_flight=in_flight, **facts)


def test_new_engines_get_the_lowest_free_numbers() -> None:
    assert choose_replicas([], 2, name) == ["chat-0", "chat-1"]
    assert choose_replicas([engine(1), engine(3)], 4, name) == ["chat-1", "chat-3", "chat-0", "chat-2"]


def test_the_least_busy_goes_and_of_equals_the_last() -> None:
    assert choose_replicas([engine(0, 1), engine(1, 9), engine(2, 5)], 2, name) == ["chat-1", "chat-2"]
    assert choose_replicas([engine(0), engine(1), engine(2)], 1, name) == ["chat-0"]


def test_what_does_not_tell_counts_as_busy() -> None:
    assert choose_replicas([engine(0, 50), engine(1, None)], 1, name) == ["chat-1"]


def test_what_answers_stays_before_what_does_not() -> None:
    assert choose_replicas([engine(0, ready=False), engine(1, 0)], 1, name) == ["chat-1"]
    waking = [engine(0, ready=False), engine(1, draining=True)]
    assert choose_replicas(waking, 1, name) == ["chat-1"]
    assert choose_replicas([engine(0, 0), engine(1, 9, draining=True)], 1, name) == ["chat-0"]
    assert choose_replicas([engine(0, 9, outdated=True), engine(1)], 1, name) == ["chat-1"]


candidates = st.lists(
    st.builds(
        Candidate,
        name=st.just(""),
        index=st.integers(0, 30),
        ready=st.booleans(),
        outdated=st.booleans(),
        draining=st.booleans(),
        in_flight=st.none() | st.integers(0, 9),
    ),
    max_size=8,
    unique_by=lambda one: one.index,
)


@given(candidates, st.integers(0, 12))
def test_there_are_as_many_as_wanted_and_no_name_twice(found: list[Candidate], count: int) -> None:
    named = [Candidate(name(c.index), c.index, c.ready, c.outdated, c.draining, c.in_flight) for c in found]
    chosen = choose_replicas(named, count, name)
    assert len(chosen) == len(set(chosen)) == count
    stay = {one.name for one in named} & set(chosen)
    assert len(stay) == min(count, len(named))
    kept = [one.ready for one in named if one.name in stay]
    gone = [one.ready for one in named if one.name not in stay]
    assert all(kept) or not any(gone)
