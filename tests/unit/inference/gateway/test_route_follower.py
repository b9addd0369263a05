"""The routing table is followed while control is there, and kept for when it is not."""

import asyncio
import stat
from pathlib import Path

import pytest

from common.ids import secret_digest
from common.wire import RouteBudget
from inference.gateway.control_link import routes as following
from tests.unit.inference.gateway.front_scene import ASK, CHAT, Front, front_scene


async def test_a_new_table_is_taken_up_kept_on_file_and_forgets_what_is_gone(front: Front) -> None:
    follower = front.gateway.routes
    await front.start_control()
    assert not await follower.poll(0.0), "it is the one that is known"
    assert follower.age_seconds == 0.0
    front.control.table = front.routes(version="2", model="other")
    front.clock.advance(5)
    assert await follower.poll(1.0)
    assert (follower.index.version, follower.age_seconds) == ("2", 0.0)
    assert (await front.ask(ASK)).status == 404
    assert (await front.ask({**ASK, "model": "other"})).status == 200
    file = front.settings.folder("spool") / "routes.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, "it holds digests of keys"
    assert '"version":"2"' in file.read_text()


async def test_what_was_made_a_moment_ago_is_served_at_once(front: Front) -> None:
    await front.start_control()
    await front.stand_still()
    old = front.control.table.keys[0]
    made = old.model_copy(update={"digest": secret_digest("ck-new")})
    front.control.table = front.routes(version="2").model_copy(update={"keys": (made,)})
    assert (await front.ask(ASK, secret="ck-new")).status == 200
    front.control.table = front.routes(version="3", model="other")
    for path in ("/v1/models/other", CHAT):
        body = {**ASK, "model": "other"} if path == CHAT else None
        assert (await front.ask(body, path)).status == 200


async def test_a_large_body_may_name_a_model_that_was_made_a_moment_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with front_scene(tmp_path, monkeypatch, large_body_bytes=50) as front:
        await front.start_control()
        await front.stand_still()
        front.control.table = front.routes(version="2", model="other")
        assert (await front.ask({**ASK, "model": "other"})).status == 200
        assert (await front.ask({**ASK, "model": "nobody's"})).status == 404


async def test_who_guesses_keys_and_models_asks_control_a_few_times_and_no_more(front: Front) -> None:
    await front.start_control()
    await front.stand_still()
    front.control.table_asks = 0
    guesses = [front.ask(ASK, secret=f"ck-{number}") for number in range(40)]
    assert {answer.status for answer in await asyncio.gather(*guesses)} == {401}
    assert 1 <= front.control.table_asks <= 2, "who asks while control is asked shares the next answer"
    for number in range(40):
        assert (await front.ask({**ASK, "model": f"m{number}"})).status == 404
    assert front.control.table_asks == 10
    assert (await front.ask(ASK)).status == 200
    assert (await front.ask(ASK, secret="")).status == 401
    front.clock.advance(1)
    assert (await front.ask(ASK, secret="ck-x")).status == 401
    assert front.control.table_asks == 11


async def test_an_unknown_key_does_not_wait_long_for_control(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await front.ask(ASK, secret="ck-x")).status == 401, "control is away"
    await front.start_control()
    await front.stand_still()
    never = asyncio.Event()
    monkeypatch.setattr(front.gateway.routes, "poll", lambda wait_seconds: never.wait())
    monkeypatch.setattr(following, "RENEWAL_SECONDS", 0.001)
    assert (await front.ask(ASK, secret="ck-x")).status == 401


async def test_an_answer_that_was_overtaken_does_not_bring_the_older_table_back(front: Front) -> None:
    await front.start_control()
    await front.stand_still()
    follower = front.gateway.routes
    front.control.table = front.routes(version="2")
    slow = asyncio.create_task(follower.poll(0.0))
    await asyncio.sleep(0)
    front.tell(front.routes(version="3"))
    assert not await slow
    assert follower.index.version == "3"


async def test_requests_are_served_by_the_table_on_file_while_control_is_away(front: Front) -> None:
    assert front.gateway.routes.known
    assert front.gateway.routes.age_seconds == 0.0
    assert (await front.ask(ASK)).status == 200


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 7}'])
async def test_a_kept_table_that_is_broken_is_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    async with front_scene(tmp_path, monkeypatch) as front:
        await front.gateway.stop()
        (front.settings.folder("spool") / "routes.json").write_bytes(content)
        await front.gateway.start()
        assert not front.gateway.routes.known
        answer = await front.ask(ASK)
        assert (answer.status, "no keys are known" in answer.error["message"]) == (503, True)


async def test_control_that_is_away_is_asked_again_with_growing_pauses(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    await front.stand_still()
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 7:
            raise asyncio.CancelledError

    monkeypatch.setattr(following.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await front.gateway.routes.follow()
    monkeypatch.undo()
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


async def test_a_table_that_cannot_be_used_is_asked_for_again_and_kept_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who follows goes on: else a key that is revoked later would work for ever."""
    odd = RouteBudget(
        id="b", name="b", tenant="t", period="day", unit="tokens", limit=1, from_ms=0, zone="No/Where"
    )
    async with front_scene(tmp_path, monkeypatch) as front:
        await front.start_control()
        await front.stand_still()
        unusable = front.routes(version="2").model_copy(update={"budgets": (odd,)})
        front.control.table = unusable

        async def sleep(seconds: float) -> None:
            front.control.table = front.routes(version="3")

        monkeypatch.setattr(following.asyncio, "sleep", sleep)
        follower = asyncio.create_task(front.gateway.routes.follow())
        while front.gateway.routes.index.version != "3" and not follower.done():
            await asyncio.wait([follower], timeout=0.01)
        monkeypatch.undo()
        follower.cancel()
        assert front.gateway.routes.index.version == "3"
        await front.gateway.stop()
        (front.settings.folder("spool") / "routes.json").write_text(unusable.model_dump_json())
        await front.gateway.start()
        assert not front.gateway.routes.known


async def test_an_engine_that_no_route_names_is_forgotten_and_one_at_work_is_not(front: Front) -> None:
    router = front.gateway._upstream.replicas.router
    await front.ask(ASK)
    assert list(router.views) == ["http://r0"]
    front.engines[0].token_seconds = 0.005
    asking = asyncio.create_task(front.ask(ASK))
    while not front.engines[0].bodies[1:]:
        await asyncio.sleep(0)
    gone = front.routes(version="2").model_copy(update={"routes": ()})
    front.tell(gone)
    assert router.views["http://r0"].in_flight == 1
    await asking
    front.tell(gone)
    assert router.views == {}
