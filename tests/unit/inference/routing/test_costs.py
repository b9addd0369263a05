"""What a replica costs, part by part in bytes, and what is kept of replicas that come and go."""

import pytest

from inference.core.routing.report import EngineReport
from inference.core.routing.router import (
    ALL_UP_TO,
    IN_TURN,
    NEAREST,
    PARTS,
    TIE,
    Router,
    Row,
    _reason,
    _row,
    _some,
)
from inference.core.routing.views import EVEN, Ask, ReplicaView, Weights
from tests.unit.inference.routing.test_index import START, TEXT
from tests.unit.inference.routing.test_router import Pool, ask

KIB = 1024


def parts(
    view: ReplicaView, asked: Ask, cached: int = 0, session: int = 1, weights: Weights = EVEN
) -> dict[str, float]:
    row = _row(view, asked, cached, session, weights)
    assert row.total == sum(row.parts)
    assert (row.view, row.cached_bytes) == (view, cached)
    return dict(zip(PARTS, row.parts, strict=True))


NOTHING = dict.fromkeys(PARTS, 0.0)


def test_an_idle_replica_that_has_the_prompt_costs_nothing() -> None:
    assert parts(ReplicaView("a", 0), ask(4096), 4096) == NOTHING
    assert parts(ReplicaView("a", 0), ask(0)) == NOTHING


@pytest.mark.parametrize(
    ("size", "cached", "cost"), [(1000, 0, 32_000), (1000, 500, 23_750), (400, 100, 11_925)]
)
def test_what_is_read_again_counts_by_its_part_of_the_prompt(size: int, cached: int, cost: float) -> None:
    assert parts(ReplicaView("a", 0), ask(size), cached)["prefix"] == cost


def test_each_part_of_the_cost_is_in_bytes() -> None:
    busy = ReplicaView("a", 0, in_flight=2, unread_bytes=700, others=3, cache_use=0.95, adapter_slots=1)
    found = parts(busy, ask(100, adapter="ft:x"), 100, session=0b10)
    assert {name: round(cost, 6) for name, cost in found.items()} == {
        "prefix": 0,
        "queue": 700,
        "load": 5 * 2 * KIB,
        "cache": 64 * KIB,
        "adapter": 4 * KIB,
        "session": 16 * KIB,
    }
    half = parts(busy, ask(100, adapter="ft:x"), 50, 0b10, Weights(0.5, 0.5, 0.5, 0.5, 0.5, 0.5))
    whole = parts(busy, ask(100, adapter="ft:x"), 50, 0b10)
    assert half == {name: cost / 2 for name, cost in whole.items()}


@pytest.mark.parametrize(
    ("at_work", "slots", "cost"),
    [
        ([], 0, 64 * KIB),
        ([], 1, 4 * KIB),
        (["ft:y"], 1, 64 * KIB),
        (["ft:y"], 2, 4 * KIB),
        (["ft:x"], 1, 0),
        (["ft:x", "ft:y"], 1, 0),
    ],
)
def test_an_adapter_costs_least_where_it_is_at_work(at_work: list[str], slots: int, cost: int) -> None:
    view = ReplicaView("a", 0, adapter_slots=slots, adapters=dict.fromkeys(at_work, 1))
    assert parts(view, ask(0, adapter="ft:x"))["adapter"] == cost
    assert parts(view, ask(0))["adapter"] == 0, "a base model needs no slot"


def test_the_reason_is_where_it_is_furthest_below_the_mean() -> None:
    view = ReplicaView("a", 0)

    def row(*costs: float) -> Row:
        return Row(view, 0, costs, sum(costs))

    assert _reason(row(*[0.0] * 6), [row(*[0.0] * 6)] * 2) == TIE
    best = row(0, 5, 0, 0, 0, 0)
    assert _reason(best, [best, row(4, 9, 0, 0, 0, 6)]) == "session"
    assert _reason(best, [best, row(6, 0, 0, 0, 0, 6)]) == "prefix", "the first of two alike"
    assert _reason(best, [best, row(0, 4, 0, 0, 0, 0), row(0, 7, 0, 0, 0, 0)]) == "queue"


@pytest.mark.parametrize(
    ("mask", "count", "first", "found"),
    [
        (0b101101, 4, 3, 0b101101),
        (0b101101, 3, 3, 0b101001),
        (0b101101, 2, 3, 0b101000),
        (0b101101, 1, 3, 0b001000),
        (0b101101, 2, 5, 0b100001),
        (0b101101, 2, 0, 0b000101),
        (0b101101, 2, 9, 0b000101),
        (0b101101, 0, 0, 0),
        (0, 3, 1, 0),
    ],
)
def test_some_of_a_set_are_taken_from_one_on_and_around(
    mask: int, count: int, first: int, found: int
) -> None:
    assert _some(mask, count, first) == found


def test_where_there_is_no_choice_a_prompt_is_not_cut_into_blocks() -> None:
    pool = Pool(1)
    asked = ask(20_000)
    sent = pool.router.send(pool.group, asked, pool.choose(asked))
    assert asked._keys is None
    assert sent.view.unread_bytes == 20_000
    assert len(pool.router._index) == 0


def test_a_prompt_whose_beginning_is_there_adds_only_its_rest_to_the_queue() -> None:
    pool = Pool(2)
    pool.send(ask(4096), to="b").end()
    sent = pool.send(ask(20_000))
    assert (sent.view.name, sent.view.unread_bytes) == ("b", 20_000 - 4096)
    sent.answering()
    sent.answering()
    assert (sent.view.in_flight, sent.view.unread_bytes) == (1, 0)
    only = pool.choose(ask(20_000), tried=["a"])
    assert (only.row.cached_bytes, only.reason) == (16 * KIB, "only"), "whole blocks"


def turn(names: list[str], first: int) -> list[str]:
    return [*names[first:], *names[:first]][:IN_TURN]


@pytest.mark.parametrize(
    ("count", "looked_at"), [(ALL_UP_TO, ALL_UP_TO), (ALL_UP_TO + 1, IN_TURN), (60, IN_TURN)]
)
def test_of_few_replicas_all_are_looked_at_and_of_many_some_in_turn(count: int, looked_at: int) -> None:
    pool = Pool(count)
    seen = [[row.view.name for row in pool.choose(ask(200)).rows] for _ in range(2)]
    assert {len(rows) for rows in seen} == {looked_at}
    if count > ALL_UP_TO:
        assert seen[0] == turn(pool.names, IN_TURN)
        assert seen[1] == turn(pool.names, 2 * IN_TURN % count)


def test_of_many_those_of_the_session_and_with_most_of_the_prompt_come_first() -> None:
    pool = Pool(60)
    for name in pool.names[20:40]:
        pool.send(ask(1024), to=name).end()
    pool.send(ask(8192), to="r050").end()
    pool.send(ask(0, start=START, session="s"), to="r055").end()
    decision = pool.choose(ask(8192, session="s"))
    rows = {row.view.name: row.cached_bytes for row in decision.rows}
    assert rows["r050"] == 8192
    assert "r055" in rows
    assert sum(cached == 1024 for cached in rows.values()) >= NEAREST - 2
    assert len(rows) == NEAREST + IN_TURN


def test_a_replica_that_comes_in_the_place_of_another_one_has_nothing_of_it() -> None:
    pool = Pool()
    router = pool.router
    gone = router.views["b"]
    router.rest(gone, 0.0)
    router.told(gone, EngineReport(7, 0.99, cache_tokens=1, started="1"))
    router.keep_only(["a", "c"])
    fresh = router.view("new")
    assert fresh.slot == gone.slot
    assert (fresh.others, fresh.cache_use, fresh.started) == (0, 0.0, None)
    group = router.group(["a", "c", "new"])
    assert pool.choose(ask(), group, tried=["a", "c"]).view is fresh, "it does not rest"
    router.send(group, ask(), pool.choose(ask(), group, tried=["a", "c"])).end()
    assert pool.choose(ask(), group).row.cached_bytes == 9 * KIB, "its cache is not the small one"


def test_a_replica_that_works_again_is_no_longer_a_troubled_one() -> None:
    pool = Pool()
    view = pool.router.views["b"]
    for trouble in (pool.router.failed, pool.router.rest):
        trouble(view, 0.0)
        assert pool.router._troubled == 1 << view.slot
        pool.router.succeeded(view)
        assert (pool.router._troubled, view.breaker.failures) == (0, 0)


def test_a_cache_is_taken_to_hold_four_bytes_for_each_token() -> None:
    for tokens, blocks in ((256, 4), (255, 3), (257, 4)):
        router = Router()
        group = router.group(["a", "b"])
        router.told(router.view("a"), EngineReport(0, 0.0, cache_tokens=tokens))
        asked = Ask(memoryview(TEXT)[:1024], START)
        decision = router.choose(group, asked, 0.0, tried=["b"])
        assert decision is not None
        router.send(group, asked, decision)
        assert len(router._index) == blocks
        router.told(router.view("a"), EngineReport(0, 0.0))
        router.send(group, asked, decision)
        assert len(router._index) == 4, "where it is not told, there is no limit"
