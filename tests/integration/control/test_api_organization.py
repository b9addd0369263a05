"""The administration calls of OpenAI's official client, and usage by tags, within what each key may see."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from common.resources import Metadata, Price
from common.resources.money import PriceItem, PriceSpec
from tests.integration.control.conftest import World, running_world
from tests.integration.control.test_api_streams import post_usage, usage_event

pytestmark = pytest.mark.integration

DAY = 24 * 3600
START = 1_700_006_400
"""A midnight, in seconds."""


def used(id_: str, at: int, **changes: Any) -> dict[str, Any]:
    times = {"started_ms": at * 1000, "ended_ms": at * 1000}
    labels = {"labels": {"task": changes.pop("task", "chat")}}
    return usage_event(id_, **{**times, **labels, "model_identity": "search/tiny", **changes})


@pytest.fixture
async def spent(tmp_path: Path) -> AsyncIterator[World]:
    """What two tenants used on three days."""
    async with running_world(tmp_path, "sqlite") as world:
        await _use(world)
        yield world


async def _use(world: World) -> None:
    items = [
        PriceItem(meter="prompt_tokens", microcredits_per_million=2_000_000),
        PriceItem(meter="completion_tokens", microcredits_per_million=6_000_000),
    ]
    spec = PriceSpec(effective_from="2020-01-01T00:00:00Z", items=items)
    await world.context.store.apply(Price(metadata=Metadata(name="standard"), spec=spec))
    await post_usage(
        world,
        used("a", START, user="ann", tags={"team": "red"}, endpoint="search/chat"),
        used("b", START + 3600, user="bob", tags={"team": 'blue, "all"'}),
        used("c", START + 2 * DAY, key="other"),
        used("e", START, task="embeddings", quantities={"prompt_tokens": 7}),
        used("foreign", START, tenant="globex", project="lab"),
    )


def client_of(world: World, key: str) -> openai.AsyncOpenAI:
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(world.app), base_url="http://control")
    return openai.AsyncOpenAI(
        admin_api_key=world.secrets[key], api_key="", base_url="http://control/v1", http_client=http
    )


async def test_the_official_client_reads_usage_page_by_page(spent: World) -> None:
    usage = client_of(spent, "acme-admin").admin.organization.usage
    ask: dict[str, Any] = {"start_time": START, "end_time": START + 3 * DAY, "group_by": ["user_id", "model"]}
    first = await usage.completions(**ask, limit=2)
    assert [len(bucket.results) for bucket in first.data] == [2, 0]
    results = [one.to_dict() for one in first.data[0].results]
    assert [(one["user_id"], one["model"], one["num_model_requests"]) for one in results] == [
        ("ann", "tiny", 1),
        ("bob", "tiny", 1),
    ]
    assert [(one["input_tokens"], one["output_tokens"], one["project_id"]) for one in results] == [
        (10, 5, None)
    ] * 2
    assert first.has_more
    second = await usage.completions(**ask, limit=2, page=first.next_page or "")
    assert [(len(bucket.results), bucket.start_time) for bucket in second.data] == [(1, START + 2 * DAY)]
    assert (second.has_more, second.next_page) == (False, None)
    hourly = await usage.completions(start_time=START, end_time=START + 2 * 3600, bucket_width="1h")
    assert [[one.to_dict()["input_tokens"] for one in bucket.results] for bucket in hourly.data] == [
        [10],
        [10],
    ]
    embedded = await usage.embeddings(start_time=START, end_time=START + DAY, api_key_ids=["search-agent"])
    [result] = embedded.data[0].results
    assert result.to_dict()["input_tokens"] == 7
    assert (await usage.images(start_time=START, end_time=START + DAY)).data[0].results == []


async def test_the_official_client_reads_costs(spent: World) -> None:
    usage = client_of(spent, "acme-admin").admin.organization.usage
    by_line = await usage.costs(start_time=START, end_time=START + DAY, group_by=["line_item"])
    lines = {one.line_item: one for one in by_line.data[0].results}  # type: ignore[union-attr]
    prompt = lines["tiny, prompt_tokens"].to_dict()
    assert (prompt["quantity"], prompt["quantity_unit"]) == (27, "tokens")
    assert prompt["amount"] == {"value": 54 / 1_000_000, "currency": "credits"}
    whole = await usage.costs(start_time=START, end_time=START + 3 * DAY)
    results: list[list[Any]] = [[one.to_dict() for one in bucket.results] for bucket in whole.data]
    amounts = [[one["amount"]["value"] for one in found] for found in results]
    assert amounts == [[114 / 1_000_000], [], [50 / 1_000_000]]


async def test_nobody_reads_what_others_used(spent: World) -> None:
    path = f"/v1/organization/usage/completions?start_time={START}&end_time={START + DAY}"
    tokens = {}
    for who in ("admin", "acme-admin", "search-member", "globex-admin"):
        [bucket] = (await spent.request(who, "GET", path)).json()["data"]
        tokens[who] = sum(one["input_tokens"] for one in bucket["results"])
    assert tokens == {"admin": 30, "acme-admin": 20, "search-member": 20, "globex-admin": 10}
    held = f"{path}&project_ids[]=lab"
    assert (await spent.request("acme-admin", "GET", held)).json()["data"][0]["results"] == []
    for asked in (path, f"/v1/organization/costs?start_time={START}"):
        assert (await spent.request("search-agent", "GET", asked)).status_code == 403
        assert (await spent.request(None, "GET", asked)).status_code == 401


WRONG = [
    ("", "start_time"),
    ("start_time=x", "start_time"),
    ("start_time=-1", "start_time"),
    (f"start_time={10**14}", "start_time"),
    ("start_time=5&end_time=5", "end_time"),
    ("start_time=5&bucket_width=1y", "bucket_width"),
    ("start_time=5&limit=32", "limit"),
    ("start_time=5&limit=0", "limit"),
    ("start_time=5&page=page_x", "page"),
    ("start_time=5&page=page_4", "page"),
    ("start_time=5&group_by=colour", "group_by"),
    ("start_time=5&" + "&".join(f"models={n}" for n in range(101)), "models"),
]
"""Query -> the parameter that is wrong."""


async def test_a_wrong_question_is_refused_by_name(world: World) -> None:
    async with world.client("admin") as admin:
        for query, param in WRONG:
            answer = await admin.get(f"/v1/organization/usage/completions?{query}")
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
        assert (await admin.get("/v1/organization/usage/colours?start_time=1")).status_code == 404
        assert (await admin.get("/v1/organization/costs?start_time=1&bucket_width=1h")).status_code == 400


async def test_usage_is_told_by_tag_and_held_to_one(spent: World) -> None:
    query = f"/api/v1/usage?from={START * 1000}&to={(START + DAY) * 1000}"
    report = (await spent.request("search-member", "GET", f"{query}&group_by=tag:team,endpoint")).json()
    assert [(row["tag:team"], row["endpoint"], row["events"]) for row in report["rows"]] == [
        ("", "", 1),
        ('blue, "all"', "", 1),
        ("red", "search/chat", 1),
    ]
    for held in ("tag=team=red", "user=ann", "endpoint=search/chat"):
        one = (await spent.request("search-member", "GET", f"{query}&{held}")).json()
        assert one["total"]["events"] == 1, held
    assert (await spent.request("search-member", "GET", f"{query}&tag=team")).status_code == 400
