"""The routing table is followed while control is there, and kept for when it is not."""

import asyncio
import stat
from pathlib import Path

import pytest

from inference.gateway import routes as following
from tests.unit.inference.gateway.front_scene import ASK, Front, front_scene


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
