"""Engines' counters beside events: what is right is never blamed, and what is wrong never explained away."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.engine_watch import MOST_WINDOWS, PATIENCE_MS, SETTLE_MS, EngineWatch, cut_of
from billing.core.reconciliation import Counts, EventGroup, Reading, Result, judge

BEGIN = Reading("p", 0, Counts(), quiet=True)


def end(prompt: int, completion: int, sequences: int, under_way: int = 0) -> Reading:
    return Reading("p", 100_000, Counts(prompt, completion, sequences), under_way, quiet=not under_way)


ONE = EventGroup("completed", events=1, prompt=5, completion=8, prompt_counted=5, sequences=1)
THREE = replace(ONE, prompt_counted=15, sequences=3)


@pytest.mark.parametrize(
    ("group", "counted", "result"),
    [
        (ONE, end(5, 8, 1), "equal"),
        (THREE, end(15, 8, 3), "equal"),
        (replace(THREE, sequences=6), end(15, 8, 6), "equal"),
        (THREE, end(5, 8, 1), "drift"),
        (ONE, end(5, 9, 1), "drift"),
        (ONE, end(6, 8, 1), "drift"),
        (ONE, end(5, 7, 1), "drift"),
        (ONE, end(10, 16, 2), "unbilled"),
        (ONE, end(10, 16, 2, under_way=1), "open"),
        (replace(ONE, outcome="gateway_lost"), end(5, 8, 1), "equal"),
        (replace(ONE, outcome="gateway_lost"), end(5, 30, 1), "unbilled"),
        (replace(ONE, outcome="engine_failed"), end(5, 7, 1), "drift"),
        (replace(THREE, outcome="cancelled"), end(10, 8, 2), "within"),
        (replace(ONE, edge=True), end(0, 0, 0), "within"),
        (replace(ONE, edge=True), end(5, 3, 1), "within"),
        (replace(ONE, edge=True), end(5, 9, 1), "drift"),
        (replace(ONE, part="reading"), end(5, 1, 1), "within"),
        (replace(ONE, part="reading"), end(5, 2, 1), "drift"),
        (replace(ONE, part="answering"), end(0, 8, 1), "within"),
        (replace(ONE, part="answering"), end(0, 7, 1), "drift"),
        (replace(ONE, part="beginning"), end(5, 3, 1), "within"),
        (replace(ONE, part="rest"), end(8, 5, 1), "within"),
    ],
)
def test_what_a_rule_explains_and_what_none_does(group: EventGroup, counted: Reading, result: Result) -> None:
    assert judge(BEGIN, counted, [group]).result == result


def test_a_window_may_begin_in_the_midst_of_requests() -> None:
    begin = replace(BEGIN, quiet=False, under_way=1)
    assert judge(begin, end(5, 8, 1), [ONE]).result == "equal"
    assert judge(begin, end(5, 12, 1), [ONE]).result == "open"
    assert judge(begin, end(5, 12, 1), [ONE, replace(ONE, edge=True)]).result == "within"
    assert judge(begin, end(5, 17, 1), [ONE, replace(ONE, edge=True)]).result == "drift"


def test_a_finding_says_what_is_missing_and_what_nobody_got() -> None:
    over = judge(BEGIN, end(5, 6, 1), [ONE])
    assert (over.missing, over.surplus) == (Counts(0, 2, 0), Counts())
    lost = judge(BEGIN, end(12, 18, 2), [ONE])
    assert (lost.surplus, lost.unanswered) == (Counts(7, 10, 1), 1)


@dataclass(frozen=True)
class Request:
    """One that an engine has answered: when, and what."""

    began_ms: int
    lasts_ms: int
    prompt: int
    completion: int
    choices: int

    @property
    def group(self) -> EventGroup:
        counted = self.prompt * self.choices
        return EventGroup("completed", 1, self.prompt, self.completion, counted, self.choices)

    @property
    def counts(self) -> Counts:
        return Counts(self.prompt * self.choices, self.completion, self.choices)


requests = st.builds(
    Request,
    st.integers(1_000, 900_000),
    st.integers(1, 30_000),
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(1, 3),
)


@given(st.lists(requests, max_size=12), st.integers(-1, 11), st.integers(1, 20))
def test_any_run_of_an_engine_is_judged_right_and_any_wrong_bill_is_found(
    made: list[Request], wrong: int, by: int
) -> None:
    """Requests in any order, read every 15 s; one event may tell too few tokens."""
    billed = [
        replace(one, completion=max(1, one.completion - by)) if number == wrong else one
        for number, one in enumerate(made)
    ]
    shorted = sum(one.completion for one in made) - sum(one.completion for one in billed)
    watch, drift = EngineWatch(), 0
    for now_ms in range(15_000, 2_500_000, 15_000):
        watch.saw(reading_at(made, now_ms), started_ms=500)
        for window in list(watch.due(now_ms)):
            finding = judge(window.begin, window.end, events_in(billed, window.begin, window.end))
            if watch.judged(window, finding, now_ms):
                assert finding.result in ("equal", "within", "drift", "open")
                assert not finding.missing.tokens
                drift += finding.surplus.tokens if finding.result == "drift" else 0
    assert (drift > 0) == (shorted > 0)


def reading_at(made: list[Request], now_ms: int) -> Reading:
    """An engine counts the prompt with the first token; here all tokens come at the end."""
    ended = [one for one in made if one.began_ms + one.lasts_ms <= now_ms]
    under_way = sum(one.choices for one in made if one.began_ms <= now_ms < one.began_ms + one.lasts_ms)
    return Reading("p", now_ms, sum((one.counts for one in ended), start=Counts()), under_way)


def events_in(billed: list[Request], begin: Reading, end: Reading) -> list[EventGroup]:
    """As the ledger adds them up, with clocks that agree."""
    found = []
    for one in billed:
        ended_ms = one.began_ms + one.lasts_ms
        if ended_ms > begin.at_ms and one.began_ms <= end.at_ms:
            edge = one.began_ms <= begin.at_ms or ended_ms > end.at_ms
            found.append(replace(one.group, edge=edge))
    return found


def test_a_cut_lies_in_the_midst_of_a_time_without_work() -> None:
    counts = Counts(5, 8, 1)
    first, second = Reading("p", 1000, counts), Reading("p", 3000, counts)
    assert cut_of(first, second) == Reading("p", 2000, counts, quiet=True)
    assert not cut_of(first, replace(second, under_way=1)).quiet
    assert not cut_of(replace(first, under_way=1), second).quiet
    assert not cut_of(first, replace(second, counts=Counts(5, 9, 1))).quiet
    assert not cut_of(None, second).quiet


def test_usage_that_waits_in_a_spool_is_waited_for_and_then_told() -> None:
    watch, counts = EngineWatch(), Counts(5, 8, 1)
    watch.saw(Reading("p", 10_000, Counts()), started_ms=1_000)
    for now_ms in (100_000, 115_000):
        watch.saw(Reading("p", now_ms, counts))
    [window] = watch.due(107_500 + SETTLE_MS)
    finding = judge(window.begin, window.end, [])
    assert finding.result == "unbilled"
    assert not watch.judged(window, finding, 107_500 + SETTLE_MS)
    assert not list(watch.due(108_000 + SETTLE_MS))
    late_ms = window.end.at_ms + PATIENCE_MS
    assert [window] == list(watch.due(late_ms))
    assert watch.judged(window, finding, late_ms)
    assert not list(watch.due(late_ms + PATIENCE_MS))


def test_what_a_dead_engine_had_told_is_still_judged_and_the_next_begins_at_nothing() -> None:
    watch = EngineWatch()
    watch.saw(Reading("p", 10_000, Counts(1, 1, 1)), started_ms=1_000)
    watch.saw(Reading("p", 20_000, Counts(5, 8, 1), under_way=1))
    watch.saw(Reading("q", 100_000, Counts(7, 9, 1)), started_ms=50_000)
    [window] = watch.due(10**6)
    assert (window.begin.at_ms, window.end.counts) == (1_000, Counts(5, 8, 1))
    watch.lost()
    windows = list(watch.due(10**6))
    assert windows[1].begin == Reading("q", 50_000, Counts(), quiet=True)
    for window in windows:
        watch.judged(window, judge(window.begin, window.end, []), 10**9)
    assert watch.is_idle


def test_an_engine_that_is_never_quiet_is_judged_ever_less_often() -> None:
    watch, judged = EngineWatch(), 0
    for number in range(5_760):
        now_ms = 15_000 * (number + 1)
        watch.saw(Reading("p", now_ms, Counts(number, number, number), 3), started_ms=1)
        for window in list(watch.due(now_ms)):
            judged += 1
            watch.judged(
                window, judge(window.begin, window.end, [EventGroup("completed", 1, 9, 9, 9, 9)]), now_ms
            )
    assert 30 < judged < 80, "within a day"
    assert len(list(watch.due(10**9))) <= 2


def test_windows_that_wait_are_bounded() -> None:
    watch, counts = EngineWatch(), Counts()
    for number in range(1_000):
        counts += Counts(1, 1, 1) if number % 8 == 0 else Counts()
        watch.saw(Reading("p", 15_000 * (number + 1), counts), started_ms=1)
    assert len(list(watch.due(10**9))) == MOST_WINDOWS
