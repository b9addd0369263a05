"""The choice of a replica, and its reasons."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.routing.blocks import partition
from inference.core.routing.breaker import FAILURES_TO_OPEN, LONGEST_PAUSE_SECONDS, Breaker
from inference.core.routing.report import EngineReport
from inference.core.routing.router import (
    ALL_UP_TO,
    FULL_BYTES,
    IN_TURN,
    NEAREST,
    PARTS,
    REASONS,
    Decision,
    Router,
    Sent,
)
from inference.core.routing.views import EVEN, Ask, Group, Weights
from tests.unit.inference.routing.test_index import START, TEXT


def ask(length: int = 10_000, at: int = 0, start: bytes = START, **more: str) -> Ask:
    return Ask(memoryview(TEXT)[at : at + length], start, **more)


class Pool:
    """A router with replicas ``a``, ``b``, …, or ``r000``, ``r001``, … where they are many."""

    def __init__(self, count: int = 3) -> None:
        self.router = Router()
        few = count <= 26
        self.names = [chr(97 + number) if few else f"r{number:03}" for number in range(count)]
        self.group = self.router.group(self.names)

    def choose(self, asked: Ask, group: Group | None = None, **more: object) -> Decision:
        decision = self.router.choose(group or self.group, asked, 0.0, **more)  # type: ignore[arg-type]
        assert decision is not None
        return decision

    def send(self, asked: Ask, to: str = "") -> Sent:
        group = self.router.group([to, "elsewhere"]) if to else self.group
        tried = ["elsewhere"] if to else []
        return self.router.send(group, asked, self.choose(asked, group, tried=tried))


def test_a_prompt_goes_where_its_beginning_was_sent_before() -> None:
    pool = Pool()
    pool.send(ask(), to="b").end()
    decision = pool.choose(ask(20_000))
    assert (decision.view.name, decision.reason) == ("b", "prefix")
    assert decision.row.cached_bytes == 9 * 1024
    assert {row.view.name: row.cached_bytes for row in decision.rows} == {"a": 0, "b": 9 * 1024, "c": 0}


def test_new_talks_that_only_share_instructions_do_not_crowd_where_those_were_read_first() -> None:
    pool = Pool()
    for number in range(9):
        talk = TEXT[:1024] + TEXT[50_000 * (1 + number) :][:20_000]
        asked = Ask(memoryview(talk), START)
        pool.router.send(pool.group, asked, pool.choose(asked)).answering()
    assert {view.in_flight for view in pool.router.views.values()} == {3}


def test_the_same_text_of_another_tenant_counts_for_nothing() -> None:
    pool = Pool()
    pool.send(ask(), to="b").end()
    other = pool.choose(ask(20_000, start=partition(b"secret", "other", "tiny")))
    assert {row.cached_bytes for row in other.rows} == {0}
    assert other.view.name != "b", "its cache is the fullest"


def test_a_prompt_does_not_wait_behind_long_ones_for_a_short_beginning() -> None:
    pool = Pool()
    pool.send(ask(1024), to="b").end()
    reading = pool.send(ask(200_000, at=999), to="b")
    decision = pool.choose(ask(4096))
    assert (decision.view.name, decision.reason) == ("a", "queue")
    reading.answering()
    assert pool.choose(ask(20_000)).view.name == "b", "what has been read holds up nobody"
    reading.end()


def test_without_prompts_in_caches_the_least_busy_wins_and_ties_are_stable() -> None:
    pool = Pool()
    texts = ask(100, start=b"")
    assert (pool.choose(texts).view.name, pool.choose(texts).reason) == ("a", "tie")
    open_ = [pool.send(texts) for _ in range(4)]
    assert [sent.view.name for sent in open_] == ["a", "b", "c", "a"]
    open_[1].end()
    open_[1].end()
    assert (pool.choose(texts).view.name, pool.choose(texts).reason) == ("b", "load")
    assert {name: view.in_flight for name, view in pool.router.views.items()} == {"a": 2, "b": 0, "c": 1}


def test_new_prompts_spread_over_the_caches_of_idle_replicas() -> None:
    pool = Pool()
    pool.router = Router(entries=15)  # less than the prompts have
    pool.group = pool.router.group(pool.names)
    for number in range(9):
        pool.send(ask(3000, at=1 + 5000 * number)).end()
    assert {pool.router._index.read_bytes(view.slot) for view in pool.router.views.values()} == {3 * 11 * 256}


def test_resting_and_tried_replicas_are_left_out() -> None:
    pool, now = Pool(), 0.0
    views = pool.router.views
    assert pool.choose(ask(), tried=["a"]).view.name == "b"
    pool.router.rest(views["b"], now)
    assert (pool.choose(ask(), tried=["a"]).view.name, pool.choose(ask(), tried=["a"]).reason) == (
        "c",
        "only",
    )
    for _ in range(FAILURES_TO_OPEN):
        pool.router.failed(views["c"], now)
    assert pool.router.choose(pool.group, ask(), now, tried=["a", "unknown"]) is None
    assert pool.router.choose(pool.group, ask(), 1.0, tried=["a"]) is not None, (
        "after its pause c is asked again"
    )
    pool.router.succeeded(views["c"])
    assert pool.router.choose(pool.group, ask(), now, tried=["a"]) is not None
    assert pool.router.choose(pool.group, ask(), LONGEST_PAUSE_SECONDS, tried=["a", "c"]) is not None
    assert pool.router.choose(pool.router.group([]), ask(), now) is None


def test_engines_that_fail_elsewhere_are_no_work_for_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of them, of others' endpoints, must not slow the choice for all."""
    pool, asked_about = Pool(), []
    for number in range(200):
        other = pool.router.view(f"other{number}")
        for _ in range(FAILURES_TO_OPEN):
            pool.router.failed(other, 0.0)
    pool.router.rest(pool.router.views["a"], 0.0)

    def allows(breaker: Breaker, now_seconds: float) -> bool:
        asked_about.append(breaker)
        return now_seconds >= breaker.open_until_seconds

    monkeypatch.setattr(Breaker, "allows", allows)
    assert pool.choose(ask()).view.name == "b"
    assert asked_about == [pool.router.views["a"].breaker]


def test_one_of_some_replicas_is_chosen_where_only_those_may_be() -> None:
    pool = Pool()
    pool.send(ask(), to="a").end()
    some = pool.router.group(["b", "c"])
    assert pool.choose(ask(), some).view.name == "b"
    pool.router.send(some, ask(), pool.choose(ask(), some)).end()
    assert pool.choose(ask(20_000), some).reason == "prefix"


def test_a_replica_whose_process_is_gone_has_an_empty_cache() -> None:
    pool = Pool()
    pool.send(ask(), to="b").end()
    pool.router.lost(pool.router.views["b"])
    assert pool.choose(ask()).row.cached_bytes == 0


def test_an_adapter_goes_where_it_is_at_work_then_where_a_slot_is_free() -> None:
    pool = Pool()
    for view in pool.router.views.values():
        view.adapter_slots = 1
    at_work = [pool.send(ask(500, adapter="ft:x"), to="c"), pool.send(ask(500, adapter="ft:y"), to="a")]
    decision = pool.choose(ask(500, at=7, adapter="ft:x"))
    assert (decision.view.name, decision.reason) == ("c", "adapter")
    assert pool.choose(ask(500, at=7, adapter="ft:z")).view.name == "b", "a and c have no slot left"
    at_work[0].end()
    again = pool.send(ask(500, at=7, adapter="ft:z"))
    assert again.view.adapters == {"ft:z": 1}
    again.end()
    assert again.view.adapters == {}


def test_a_session_stays_where_it_was_until_others_wait_much_less() -> None:
    pool = Pool()
    pool.send(ask(200, session="s"), to="c").end()
    decision = pool.choose(ask(200, at=50, session="s"))
    assert (decision.view.name, decision.reason) == ("c", "session")
    assert pool.choose(ask(200, at=50, session="another")).view.name == "a"
    busy = [pool.send(ask(200, start=b""), to="c") for _ in range(9)]
    assert pool.choose(ask(200, at=50, session="s")).view.name == "a"
    assert busy


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_weight_0_does_not_count(part: str) -> None:
    pool = Pool(2)
    for view in pool.router.views.values():
        view.adapter_slots = 1
    pool.send(ask(5000, adapter="ft:x", session="s"), to="b").answering()
    pool.send(ask(900, at=3, start=b"", adapter="ft:y"), to="a")
    weights = Weights(**{part: 0.0})
    asked = ask(9000, adapter="ft:x", session="s")
    number = PARTS.index(part)
    pool.router.told(pool.router.views["b"], EngineReport(0, 0.97))
    differing = {row.parts[number] for row in pool.choose(asked).rows}
    assert len(differing) == (1 if part == "load" else 2)
    assert {row.parts[number] for row in pool.choose(asked, weights=weights).rows} == {0.0}


def test_of_many_replicas_the_one_with_the_prompt_is_found_and_few_are_looked_at() -> None:
    pool = Pool(300)
    for name in ("r017", "r256"):
        pool.send(ask(), to=name).end()
    for _ in range(40):
        decision = pool.choose(ask(20_000))
        assert decision.view.name in ("r017", "r256")
        assert len({row.view.name for row in decision.rows}) == len(decision.rows) <= NEAREST + IN_TURN
    chosen = [pool.send(ask(5000, at=5000 * number)).view.name for number in range(1, 290)]
    assert len(set(chosen)) > 250, "prompts without a beginning anywhere go round"


def test_of_a_beginning_that_very_many_have_some_are_looked_at_in_turn() -> None:
    pool = Pool(300)
    for name in pool.names[:100]:
        pool.send(ask(), to=name).end()
    seen = set()
    for _ in range(60):
        decision = pool.choose(ask(20_000))
        assert decision.row.cached_bytes == 9 * 1024
        seen |= {row.view.name for row in decision.rows if row.cached_bytes}
    assert len(seen) > 60


def test_a_replica_that_nobody_names_any_more_is_forgotten_with_all_it_had() -> None:
    pool = Pool()
    busy = pool.send(ask(), to="a")
    pool.send(ask(), to="b").end()
    pool.router.failed(pool.router.views["b"], 0.0)
    pool.router.keep_only(["c"])
    assert sorted(pool.router.views) == ["a", "c"], "a still works"
    fresh = pool.router.group(["c", "new"])
    assert pool.choose(ask(), fresh).row.cached_bytes == 0
    assert pool.router.views["new"].breaker.failures == 0
    busy.end()
    pool.router.keep_only(["c"])
    assert sorted(pool.router.views) == ["c"]


events = st.tuples(
    st.sampled_from(["send", "send", "send", "answer", "end", "fail", "rest", "good", "lost", "leave"]),
    st.integers(0, 60),
)


@given(st.integers(1, 60), st.lists(events, max_size=50), st.lists(st.integers(0, 59), max_size=4))
def test_whatever_happens_the_choice_is_the_cheapest_usable_one_and_the_books_close(
    count: int, story: Sequence[tuple[str, int]], tried: Sequence[int]
) -> None:
    pool, now = Pool(count), 0.0
    open_: list[Sent] = []
    names = [pool.names[number % count] for number in tried]
    for what, number in story:
        now += 0.25
        view = pool.router.view(pool.names[number % count])
        if what == "send":
            asked = ask(100 * number, at=number % 7, adapter="x" * (number % 3), session="s" * (number % 2))
            decision = pool.router.choose(pool.group, asked, now, EVEN, names)
            usable = [one for one in pool.group.members if one.breaker.allows(now) and one.name not in names]
            if decision is None:
                assert not usable
                continue
            assert decision.view in usable
            assert decision.reason in REASONS
            assert decision.row.total == min(row.total for row in decision.rows)
            assert len(decision.rows) == len(usable) or len(pool.group.members) > ALL_UP_TO
            open_.append(pool.router.send(pool.group, asked, decision))
        elif what in ("answer", "end") and open_:
            sent = open_[number % len(open_)]
            sent.answering() if what == "answer" else sent.end()
        elif what == "leave":
            pool.router.keep_only(set(pool.names) - {view.name})
            pool.group = pool.router.group(pool.names)
        elif what in ("fail", "rest"):
            (pool.router.failed if what == "fail" else pool.router.rest)(view, now)
        elif what in ("good", "lost"):
            (pool.router.succeeded if what == "good" else pool.router.lost)(view)
    for sent in open_:
        sent.end()
    assert {(one.in_flight, one.unread_bytes, len(one.adapters)) for one in pool.router.views.values()} == {
        (0, 0, 0)
    }


def test_what_other_gateways_sent_a_replica_counts_as_far_as_it_tells() -> None:
    pool, texts = Pool(), ask(100, start=b"")
    views = pool.router.views
    own = pool.send(texts, to="c")
    pool.router.told(views["a"], EngineReport(5, 0.2))
    pool.router.told(views["b"], EngineReport(2, 0.2))
    pool.router.told(views["c"], EngineReport(1, 0.2))
    assert {name: view.others for name, view in views.items() if len(name) == 1} == {"a": 5, "b": 2, "c": 0}
    assert (pool.choose(texts).view.name, pool.choose(texts).reason) == ("c", "load")
    own.end()
    pool.router.told(views["a"], None)
    assert pool.choose(texts).view.name == "a", "what is not told any more does not count"


def test_a_replica_whose_cache_is_held_by_running_requests_is_left_to_them() -> None:
    pool = Pool()
    for name, use in (("a", 0.99), ("b", 0.9), ("c", 0.95)):
        pool.router.told(pool.router.views[name], EngineReport(0, use))
    decision = pool.choose(ask(100))
    assert (decision.view.name, decision.reason) == ("b", "cache")
    assert [round(row.parts[PARTS.index("cache")] / FULL_BYTES, 2) for row in decision.rows] == [
        0.9,
        0.0,
        0.5,
    ]


def test_no_more_is_taken_to_be_in_a_cache_than_it_holds() -> None:
    pool = Pool()
    view = pool.router.views["a"]
    pool.router.told(view, EngineReport(0, 0.0, cache_tokens=1000))
    pool.send(ask(10_000), to="a").end()
    assert pool.choose(ask()).row.cached_bytes <= 4000
    pool.router.told(view, EngineReport(0, 0.0, cache_tokens=100_000))
    pool.send(ask(10_000), to="a").end()
    assert pool.choose(ask()).row.cached_bytes == 9 * 1024


def test_another_process_at_the_same_place_has_an_empty_cache() -> None:
    pool = Pool()
    view = pool.router.views["b"]
    pool.router.told(view, EngineReport(0, 0.0, None, "1000"))
    pool.send(ask(), to="b").end()
    for report in (EngineReport(0, 0.0, None, "1000"), None, EngineReport(0, 0.0, None, "1000")):
        pool.router.told(view, report)
        assert pool.choose(ask()).reason == "prefix"
    pool.router.told(view, EngineReport(0, 0.0, None, "2000"))
    assert pool.choose(ask()).row.cached_bytes == 0
