"""Hard budgets at one gateway process, before a control that answers as the real one does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from billing.core.leases import LEASE_SECONDS, Ask, Lease, renewed
from common.clock import VirtualClock
from common.errors import BudgetSpent, Unavailable
from common.settings import Settings
from common.wire import RouteBook, RouteBudget, RoutingTable
from inference.core.body import InferenceRequest, parse_request
from inference.core.usage import TokenCounts
from inference.gateway.budgets.guard import Asking, BudgetGuard, Held
from inference.gateway.budgets.keeper import IDLE_SECONDS, LeaseKeeper
from inference.gateway.budgets.predecessors import HOLDERS_FILE, Predecessors
from inference.gateway.budgets.worst_case import TEMPLATE_TOKENS, most_of
from inference.gateway.control_link.table import RouteIndex
from tests.fixtures.gateway import table

PRICES = (("prompt_tokens", 0), ("cached_tokens", 0), ("completion_tokens", 1_000_000))


class Control:
    """Grants leases of budgets by their ids; ``spent`` is what is posted."""

    def __init__(self) -> None:
        self.limits: dict[str, int] = {}
        self.spent: dict[str, int] = {}
        self.leases: dict[tuple[str, str], Lease] = {}
        self.reports: list[dict[str, Any]] = []
        self.is_away = False

    @asynccontextmanager
    async def post(self, url: str, data: str, **_: Any) -> AsyncIterator[Any]:
        if self.is_away:
            raise aiohttp.ClientConnectionError("nobody is there")
        report = json.loads(data)
        self.reports.append(report)
        answers = []
        for asked in report["leases"]:
            place = asked["budget"], report["holder"]
            held = sum(
                lease.open for other, lease in self.leases.items() if other[0] == place[0] and other != place
            )
            names = ("firm", "room", "needed", "active", "least")
            ask = Ask(report["sequence"], *(asked[name] for name in names))
            spent = self.spent.get(place[0], 0)
            lease = renewed(self.leases.get(place), ask, self.limits[place[0]], spent, held, 0)
            self.leases[place] = lease
            told = {"budget": place[0], "period": asked["period"], "change": lease.change}
            answers.append({**told, "spent": spent, "held": held})
        yield Answer(json.dumps({"leases": answers}).encode())

    def held(self, id_: str) -> int:
        return sum(lease.open for place, lease in self.leases.items() if place[0] == id_)


class Answer:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def raise_for_status(self) -> None:
        pass

    async def read(self) -> bytes:
        return self._content


class Scene:
    def __init__(self, folder: Path) -> None:
        self.clock, self.control = VirtualClock(), Control()
        self.budgets: list[RouteBudget] = []
        self.posted_before = float("-inf")
        self.predecessors = Predecessors(folder, self.clock.monotonic_seconds())
        session = cast(aiohttp.ClientSession, self.control)
        self.keeper = LeaseKeeper(
            Settings(internal_token="t"), session, self.clock, lambda: self.posted_before, self.predecessors
        )
        self.guard = BudgetGuard(self.keeper, self.clock)

    def budget(self, name: str, limit: int, unit: Any = "microcredits", **more: Any) -> None:
        content = {"period": "total", "limit": limit, "from_ms": 0, **more}
        self.budgets.append(RouteBudget(id=name, name=name, tenant="acme", unit=unit, **content))
        self.control.limits[name] = limit

    @property
    def index(self) -> RouteIndex:
        items = tuple({"meter": meter, "microcredits_per_million": price} for meter, price in PRICES)
        book = RouteBook(name="p", version=1, from_ms=0, items=items)
        routes = table([("r0", "http://r0")])
        changed = {"budgets": tuple(self.budgets), "books": (book,)}
        return RouteIndex(RoutingTable.model_validate(routes.model_dump() | changed))

    async def admit(self, **said: Any) -> Held | None:
        index = self.index
        asking = Asking(request(**said), index.routes[0], "acme", "acme-bots", "alice", self.clock.now_ms())
        return await self.guard.admit(index, asking)

    async def report(self, seconds: float = 1.0) -> None:
        """So long later all usage is posted, and the keeper reports."""
        self.clock.advance(seconds)
        self.posted_before = self.clock.monotonic_seconds()
        await self.keeper.step()


def request(max_tokens: int | None = 20, **more: Any) -> InferenceRequest:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **more}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    return parse_request("chat", json.dumps(body).encode())


def used(completion: int) -> TokenCounts:
    return TokenCounts(prompt=5, completion=completion)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path)
    running = asyncio.create_task(made.keeper.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_only_whom_a_budget_names_holds_anything(scene: Scene) -> None:
    scene.budget("tagged", 100, tags={"team": "search"})
    scene.budget("later", 100, from_ms=scene.clock.now_ms() + 1)
    assert await scene.admit() is None
    held = await scene.admit(metadata={"team": "search"})
    assert held is not None
    assert [(hold.share.terms.name, hold.amount) for hold in held.holds] == [("tagged", 20)]


async def test_what_was_not_used_is_room_again_and_what_was_used_is_firm_until_posted(scene: Scene) -> None:
    scene.budget("cap", 40)
    first = await scene.admit()
    assert first is not None
    first.settle(used(5))
    second = await scene.admit()
    assert second is not None
    await scene.report()
    assert scene.control.held("cap") <= 40
    second.settle(used(20))
    scene.control.spent["cap"] = 25
    await scene.report()
    await scene.report(IDLE_SECONDS + 1)
    assert scene.control.held("cap") == 0


async def test_many_at_once_are_let_in_as_far_as_the_budget_goes(scene: Scene) -> None:
    scene.budget("cap", 100)
    answers = await asyncio.gather(*(scene.admit() for _ in range(8)), return_exceptions=True)
    refused = [one for one in answers if isinstance(one, BudgetSpent)]
    assert (len(answers) - len(refused), len(refused)) == (5, 3)
    assert all(one.passes_soon and one.retry_after_seconds == 2 for one in refused)


async def test_of_several_budgets_all_hold_or_none(scene: Scene) -> None:
    scene.budget("wide", 1000)
    scene.budget("narrow", 30)
    assert await scene.admit() is not None
    with pytest.raises(BudgetSpent) as caught:
        await scene.admit()
    assert caught.value.budget is not None
    assert caught.value.budget.name == "narrow"
    await scene.report()
    shares = {share.terms.name: share.account.held for share in scene.keeper._shares.values()}
    assert shares == {"wide": 20, "narrow": 20}


async def test_a_refusal_says_what_is_left_and_when_it_begins_anew(scene: Scene) -> None:
    scene.budget("day", 30, period="day")
    scene.control.spent["day"] = 25
    with pytest.raises(BudgetSpent) as caught:
        await scene.admit()
    error, told = caught.value, caught.value.budget
    assert told is not None
    assert (told.limit, told.spent, told.needs, error.passes_soon) == (30, 25, 20, False)
    assert told.resets is not None
    assert told.resets in error.message
    assert 0 < error.retry_after_seconds <= 24 * 3600
    assert await scene.admit(max_tokens=5) is not None


async def test_a_request_that_says_no_length_holds_the_context(scene: Scene) -> None:
    scene.budget("cap", 2047)
    with pytest.raises(BudgetSpent) as caught:
        await scene.admit(max_tokens=None)
    assert caught.value.budget is not None
    assert caught.value.budget.needs == 2048


async def test_without_control_a_lease_holds_for_a_while_and_then_nobody_is_let_in(scene: Scene) -> None:
    scene.budget("cap", 10_000)
    assert await scene.admit() is not None
    await scene.report(0.0)
    scene.control.is_away = True
    assert await scene.admit() is not None
    scene.clock.advance(LEASE_SECONDS)
    with pytest.raises(Unavailable) as caught:
        await scene.admit()
    assert caught.value.code == "budget_unknown"
    scene.control.is_away = False
    assert await scene.admit() is not None


async def test_control_is_not_asked_for_each_request_that_is_refused(scene: Scene) -> None:
    scene.budget("cap", 10)
    for _ in range(20):
        with pytest.raises(BudgetSpent):
            await scene.admit()
    assert len(scene.control.reports) <= 4
    assert await scene.admit(max_tokens=9) is not None


async def test_use_beyond_the_hold_is_taken_too(scene: Scene) -> None:
    scene.budget("cap", 100)
    held = await scene.admit()
    assert held is not None
    held.settle(used(70))
    scene.clock.advance(0.1)
    with pytest.raises(BudgetSpent):
        await scene.admit(max_tokens=31)
    assert await scene.admit(max_tokens=30) is not None


async def test_a_closed_keeper_gives_everything_back(scene: Scene) -> None:
    scene.budget("cap", 1000)
    held = await scene.admit()
    assert held is not None
    held.settle(used(0))
    assert scene.control.held("cap") > 0
    await scene.keeper.close()
    assert scene.control.held("cap") == 0


async def test_the_dead_are_told_of_once_their_usage_is_posted(tmp_path: Path) -> None:
    (tmp_path / HOLDERS_FILE).write_text('["gw-dead"]')
    scene = Scene(tmp_path)
    scene.budget("cap", 100)
    task = asyncio.create_task(scene.admit())
    await asyncio.sleep(0)
    await scene.keeper.step()
    assert await task is not None
    assert scene.control.reports[-1]["ended"] == []
    own = scene.control.reports[-1]["holder"]
    assert json.loads((tmp_path / HOLDERS_FILE).read_text()) == ["gw-dead", own]
    await scene.report()
    assert scene.control.reports[-1]["ended"] == ["gw-dead"]
    assert json.loads((tmp_path / HOLDERS_FILE).read_text()) == [own]


def test_holders_that_cannot_be_read_end_by_themselves(tmp_path: Path) -> None:
    (tmp_path / HOLDERS_FILE).write_text("{")
    assert Predecessors(tmp_path, 0.0).ended(1.0) == ()


def test_the_most_that_a_request_can_use() -> None:
    one = request(max_tokens=20, n=3)
    assert most_of(one, 100_000) == (len(one.rest) + TEMPLATE_TOKENS, 60)
    assert most_of(one, 50) == (50, 60)
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    seen = request(messages=[{"role": "user", "content": image}])
    assert most_of(seen, 4000) == (4000, 20)
    texts = parse_request("embeddings", b'{"model": "tiny", "input": ["a", "b"]}')
    assert most_of(replace(texts, other_api="rerank"), 512) == (1536, 0)
    assert most_of(texts, 512) == (1024, 0)
