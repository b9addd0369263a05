"""What engines have counted beside the events, through the API."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from billing.core.reconciliation import Counts, EventGroup, Reading, judge
from control.reconciling.loop import EngineFinding, Reconciler
from inference.adapters.engine import VllmEngines
from tests.integration.control.conftest import World, running_world
from tests.integration.control.test_api_organization import START, used
from tests.integration.control.test_api_streams import post_usage

pytestmark = pytest.mark.integration

PATH = "/api/v1/reconciliation"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world with some usage, whose control process reconciles."""
    async with running_world(tmp_path, "sqlite") as world:
        await post_usage(world, used("a", START), used("b", START))
        context, engines = world.context, VllmEngines("t")
        context.reconciler = Reconciler(context.store, engines, context.ledger, context.clock)
        yield world
        await engines.close()


async def test_a_platform_admin_sees_windows_and_sums(world: World) -> None:
    assert world.context.reconciler is not None
    assert (await world.request("admin", "GET", PATH)).json() == {
        "engines": 0,
        "ledgerApart": None,
        "items": [],
    }
    await world.context.reconciler.step()
    end = Reading("p", 60_000, Counts(5, 9, 1))
    finding = judge(Reading("p", 0, Counts(), quiet=True), end, [EventGroup("completed", 1, 5, 8, 5, 1)])
    world.context.reconciler.findings.append(EngineFinding("search/chat", "chat-0", finding))
    told = (await world.request("admin", "GET", PATH)).json()
    assert told["ledgerApart"] == {}
    [one] = told["items"]
    assert (one["endpoint"], one["engine"], one["result"]) == ("search/chat", "chat-0", "drift")
    assert (one["from"], one["to"]) == ("1970-01-01T00:00:00.000Z", "1970-01-01T00:01:00.000Z")
    assert one["surplus"] == {"prompt": 0, "completion": 1}
    assert "no rule says why" in one["message"]


async def test_nobody_else_does(world: World) -> None:
    for key in ("acme-admin", "search-member"):
        assert (await world.request(key, "GET", PATH)).status_code == 403
    assert (await world.request(None, "GET", PATH)).status_code == 401


async def test_where_nobody_reconciles_it_is_said(world: World) -> None:
    world.context.reconciler = None
    assert (await world.request("admin", "GET", PATH)).status_code == 503
