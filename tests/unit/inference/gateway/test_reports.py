"""Engines are asked how busy they are where there is a choice among them."""

import asyncio

import pytest

from inference.gateway.engines import reports as module
from inference.gateway.engines.reports import PAGE_LIMIT_BYTES
from tests.unit.inference.gateway.front_scene import ASK, Front
from tests.unit.inference.routing.test_report import MORE
from tests.unit.inference.test_engine_metrics import PAGE


async def test_a_busy_engine_is_passed_by_although_this_gateway_sent_it_nothing(wide_front: Front) -> None:
    front = wide_front
    for engine in front.engines[:3]:
        engine.metrics = PAGE + MORE
    for engine in front.engines:
        await front.gateway._upstream.reports.ask(engine.url)
    for _ in range(3):
        assert (await front.ask(ASK)).status == 200
    assert [len(engine.bodies) for engine in front.engines] == [0, 0, 0, 3]


@pytest.mark.parametrize("page", [None, "", "x" * (PAGE_LIMIT_BYTES + 1), "\udcff"])
async def test_an_engine_that_tells_nothing_is_known_by_what_it_was_sent(
    wide_front: Front, page: str | None
) -> None:
    front = wide_front
    engine = front.engines[0]
    reports, views = front.gateway._upstream.reports, front.gateway._upstream.replicas.router.views
    await front.ask(ASK)
    engine.metrics = PAGE
    await reports.ask(engine.url)
    assert views[engine.url].others == 6
    engine.metrics = page
    await reports.ask(engine.url)
    assert views[engine.url].others == 0
    await engine.stop()
    await reports.ask(engine.url)
    await reports.ask("http://nobody")
    assert "http://nobody" not in views


async def test_only_engines_with_others_beside_them_are_asked_and_no_round_is_dense(
    wide_front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    asked: list[str] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise asyncio.CancelledError

    async def ask(url: str) -> None:
        asked.append(url)

    await wide_front.stand_still()
    upstream = wide_front.gateway._upstream
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    monkeypatch.setattr(upstream.reports, "ask", ask)
    with pytest.raises(asyncio.CancelledError):
        await upstream.reports.follow()
    assert (pauses, asked) == ([0.5] * 4, [f"http://r{number}" for number in range(4)])
    alone = wide_front.routes().routes[0]
    upstream.keep_only([alone.model_copy(update={"replicas": alone.replicas[:1]})])
    pauses.clear()
    with pytest.raises(asyncio.CancelledError):
        await upstream.reports.follow()
    assert (pauses, len(asked)) == ([2.0] * 4, 4)
