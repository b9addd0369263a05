"""The queue of what is to be looked at, on a clock of the tests."""

from hypothesis import given
from hypothesis import strategies as st

from operators.work_queue import LONGEST_SECONDS, WorkQueue, pause_seconds


class Now:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def queue() -> tuple[WorkQueue[str], Now]:
    now = Now()
    return WorkQueue(now), now


def test_each_key_once_and_by_one_worker_at_a_time() -> None:
    work, _ = queue()
    for key in "aab":
        work.add(key)
    assert [work.take_due(), work.take_due(), work.take_due()] == ["a", "b", None]
    work.add("a")
    assert work.take_due() is None
    work.done("a")
    assert work.take_due() == "a"


def test_later_is_later_and_earlier_wins() -> None:
    work, now = queue()
    work.add("a", 10)
    work.add("b", 5)
    work.add("a", 2)
    work.add("a", 20)
    assert work.take_due() is None
    now.seconds += 2
    assert work.take_due() == "a"
    now.seconds += 3
    assert work.take_due() == "b"


def test_failures_come_again_by_themselves_and_at_once_when_hurried() -> None:
    work, now = queue()
    work.add("a")
    assert work.take_due() == "a"
    work.done("a", failed=True)
    assert work.take_due() is None
    now.seconds += 1
    assert work.take_due() == "a"
    work.done("a", failed=True)
    work.hurry()
    assert work.take_due() == "a"
    work.done("a")
    work.hurry()
    assert work.take_due() is None
    assert len(work) == 0


def test_those_that_were_tried_longest_ago_are_hurried_first() -> None:
    work, now = queue()
    for key in "abc":
        work.add(key)
        assert work.take_due() == key
        work.done(key, failed=True)
    work.hurry(1)
    assert [work.take_due(), work.take_due()] == ["a", None]
    work.done("a", failed=True)
    work.hurry(2)
    assert [work.take_due(), work.take_due(), work.take_due()] == ["b", "c", None]
    assert now.seconds == 100


def test_what_changed_meanwhile_is_looked_at_again_soon_though_it_failed() -> None:
    work, now = queue()
    work.add("a")
    work.take_due()
    work.add("a")
    work.done("a", failed=True)
    now.seconds += 0.5
    assert work.take_due() == "a"


@given(st.integers(1, 200), st.text(max_size=5))
def test_pauses_are_bounded(failures: int, key: str) -> None:
    assert 0.3 <= pause_seconds(failures, key) <= LONGEST_SECONDS * 1.25


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "fail", "done"]), st.sampled_from("abc"))))
def test_nothing_is_lost(steps: list[tuple[str, str]]) -> None:
    """Whatever is added is taken in the end, and nothing is worked on twice at a time."""
    work, now = queue()
    open_keys: list[str] = []
    waiting: set[str] = set()
    for what, key in steps:
        now.seconds += 0.1
        if what == "add":
            work.add(key)
            waiting.add(key)
        elif what == "take":
            taken = work.take_due()
            if taken is not None:
                assert taken not in open_keys
                open_keys.append(taken)
                waiting.discard(taken)
        elif open_keys:
            worked = open_keys.pop()
            work.done(worked, failed=what == "fail")
            if what == "fail":
                waiting.add(worked)
    for worked in open_keys:
        work.done(worked)
    now.seconds += 1000
    left = set()
    while (taken := work.take_due()) is not None:
        left.add(taken)
    assert waiting <= left


def test_each_group_has_its_turn_however_many_keys_another_has() -> None:
    now = Now()
    work: WorkQueue[str] = WorkQueue(now, lambda key: key[0])
    for number in range(1000):
        work.add(f"a{number}")
    work.add("b1")
    work.add("b2", -60)
    work.add("c1", 5)
    assert [work.take_due() for _ in range(5)] == ["b2", "a0", "b1", "a1", "a2"]
    now.seconds += 5
    assert "c1" in [work.take_due() for _ in range(2)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(-2, 2)), max_size=30))
def test_groups_lose_no_key_and_give_none_twice(added: list[tuple[str, int, int]]) -> None:
    now = Now()
    work: WorkQueue[str] = WorkQueue(now, lambda key: key[0])
    taken = []
    for group, number, after in added:
        work.add(f"{group}{number}", after)
        if number == 0 and (key := work.take_due()) is not None:
            work.done(key)
            taken.append(key)
    now.seconds += 10
    rest = []
    while (key := work.take_due()) is not None:
        rest.append(key)
    assert len(rest) == len(set(rest))
    assert {*taken, *rest} == {f"{group}{number}" for group, number, _ in added}
    assert len(work) == len(rest)
