"""What control has, as its list and its stream tell."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from operators.control.link import ControlLink
from operators.control.view import ControlView, Item, item_of

KIND = "Model"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.control.view.RETRY_SECONDS", (0.0,))


def model(name: str, version: int, uid: str = "u") -> dict[str, Any]:
    return {
        "kind": KIND,
        "metadata": {"name": name, "project": "p", "resourceVersion": version, "uid": uid},
        "spec": {},
        "status": {},
    }


class Control:
    """Lists what it has, and streams what a test puts in its queue; None ends a stream, an int is the status
    with which the next one is refused."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.revision = 0
        self.lines: asyncio.Queue[dict[str, Any] | int | None] = asyncio.Queue()
        self.asked_since: list[int] = []
        self.lists = 0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/watch"):
            self.asked_since.append(int(request.url.params["since"]))
            first = await self.lines.get()
            if isinstance(first, int):
                return httpx.Response(first, json={"error": {"message": "gone", "code": "gone"}})
            return httpx.Response(200, content=self._stream(first))
        self.lists += 1
        return httpx.Response(200, json={"items": self.items, "revision": self.revision})

    async def _stream(self, line: Any) -> AsyncIterator[bytes]:
        while line is not None:
            yield (json.dumps(line) + "\n").encode()
            line = await self.lines.get()

    def say(self, kind: str, revision: int, resource: dict[str, Any] | None = None) -> None:
        change = {"type": kind, "revision": revision}
        self.lines.put_nowait({**change, "resource": resource} if resource else change)


@asynccontextmanager
async def following(control: Control) -> AsyncIterator[tuple[ControlView, list[Item]]]:
    link = ControlLink(["http://control"], lambda: "k", transport=httpx.MockTransport(control.answer))
    told: list[Item] = []
    view = ControlView(link, [KIND])
    view.told = lambda item, _: told.append(item)
    task = asyncio.create_task(view.follow())
    try:
        yield view, told
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)


ITEM = Item(KIND, "p", "a")


async def test_list_then_changes() -> None:
    control = Control()
    control.items, control.revision = [model("a", 3)], 5
    async with following(control) as (view, told):
        control.say("heartbeat", 5)
        await until(view.synced.is_set)
        assert view.find(ITEM) == model("a", 3)
        control.say("put", 6, model("a", 6))
        control.say("put", 7, model("b", 7))
        control.say("delete", 8, model("a", 6))
        await until(lambda: len(told) == 4)
        assert view.find(ITEM) is None
        assert [one["metadata"]["name"] for one in view.all_of(KIND)] == ["b"]


async def test_a_stream_that_ends_goes_on_where_it_was() -> None:
    control = Control()
    control.revision = 5
    async with following(control) as (view, _):
        control.say("put", 9, model("a", 9))
        await until(lambda: view.find(ITEM) is not None)
        control.lines.put_nowait(None)
        control.say("heartbeat", 9)
        await until(lambda: len(control.asked_since) == 2 and not view.trouble)
        assert (control.asked_since, control.lists) == ([5, 9], 1)


async def test_who_was_away_for_too_long_lists_again_and_is_told_what_is_gone() -> None:
    control = Control()
    control.items, control.revision = [model("a", 3), model("b", 3)], 5
    async with following(control) as (view, told):
        control.say("heartbeat", 5)
        await until(view.synced.is_set)
        told.clear()
        control.items, control.revision = [model("b", 3)], 90
        control.lines.put_nowait(None)
        control.lines.put_nowait(409)
        control.say("heartbeat", 90)
        await until(lambda: control.lists == 2 and not view.trouble)
        assert told == [ITEM]
        assert view.find(ITEM) is None


async def test_a_status_is_no_news() -> None:
    control = Control()
    news: list[bool] = []
    control.items, control.revision = [model("a", 3)], 5
    async with following(control) as (view, _):
        control.say("heartbeat", 5)
        await until(view.synced.is_set)
        view.told = lambda item, is_news: news.append(is_news)
        changed = model("a", 7)
        changed["metadata"]["generation"] = 2
        for revision, one in ((6, model("a", 6)), (7, changed), (8, changed), (9, model("b", 9))):
            control.say("put", revision, one)
        control.say("delete", 10, model("b", 9))
        await until(lambda: len(news) == 5)
    assert news == [False, True, False, True, True]


def test_older_news_does_not_win() -> None:
    view = ControlView(ControlLink(["http://c"], lambda: ""), [KIND])
    view.learn(model("a", 9))
    view.learn(model("a", 4))
    assert view.find(ITEM) == model("a", 9)
    view.forget(ITEM)
    view.forget(ITEM)
    assert view.find(ITEM) is None
    assert item_of(model("a", 1)) == ITEM


async def test_the_deletion_of_an_earlier_one_of_the_name_is_no_news() -> None:
    control = Control()
    async with following(control) as (view, told):
        control.say("put", 2, model("a", 2, uid="new"))
        control.say("delete", 3, model("a", 1, uid="old"))
        await until(lambda: len(told) == 2)
        assert view.find(ITEM) is not None


async def test_the_next_address_is_asked_when_one_does_not_answer() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.host == "first":
            raise httpx.ConnectError("off")
        return httpx.Response(200, json={"items": [], "revision": 1})

    link = ControlLink(["http://first", "http://second"], lambda: "k", transport=httpx.MockTransport(answer))
    for _ in range(3):
        with suppress(Exception):
            await link.list_all("models")
    assert asked == ["first", "second", "second"]
