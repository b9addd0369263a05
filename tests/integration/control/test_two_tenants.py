"""Two tenants on one platform: whatever one writes, nothing of the other or of the platform changes, and
what one can read is the same whether or not the other exists.
"""

import asyncio
import json
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from common.auth import Principal
from common.resources import KINDS, ApiKey, Endpoint, Model, Project
from common.sources import is_open_to
from inference.gateway.control_link.table import RouteIndex
from inference.routes import build_routing_table
from tests.fixtures.two_tenants import OURS, THEIRS, add_platform, add_things, writes
from tests.integration.control.conftest import TENANTS, World, running_world

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

OUR_KEYS = ("globex-admin", "lab-member", "lab-agent")
WRITERS = ("globex-admin", "lab-member")
ASKED = (
    *("tiny", "chat", "acme-chat", "acme-secret", "search", "lab", "acme", "own", "nobody"),
    *("file-1", "ftjob-1", "workload-1", "search-member", "acme-book", "n1", "default"),
)
ENDLESS = ("/api/v1/watch",)
EVENTS = "/api/v1/events"
"""In this world they all come in one millisecond, and so in no order."""
KEYED_OTHERWISE = ("/internal/v1/routes", "/metrics")
_RANDOM = re.compile(r"-[0-9a-z]{26}\b|ck-[\w-]{5}")
_COUNTED = re.compile(r'"(revision|resourceVersion)": ?\d+')


async def fill(world: World, *tenants: tuple[str, str]) -> None:
    await add_platform(world)
    for tenant, project in tenants:
        await add_things(world, tenant, project)


# What one reads


def plain(text: str) -> str:
    """Without what is drawn by lot, and without the store's one counter of writes."""
    return _COUNTED.sub(r'"\1": 0', _RANDOM.sub("-*", text))


async def views(world: World) -> dict[str, Any]:
    """Every answer to a GET of each of our keys, for names of ours, of theirs, and of nobody."""
    found: dict[str, Any] = {}
    operations = world.app.openapi()["paths"]
    for key in OUR_KEYS:
        async with world.client(key) as client:
            for path, item in operations.items():
                if "get" not in item or path in (*ENDLESS, *KEYED_OTHERWISE):
                    continue
                for url in _urls(path, item["get"].get("parameters", [])):
                    answer = await client.get(url)
                    text = plain(answer.text)
                    if path == EVENTS and answer.is_success:
                        text = json.dumps(sorted(map(json.dumps, json.loads(text)["items"])))
                    found[f"{key} {url}"] = answer.status_code, text
            seen = await client.get("/api/v1/watch?since=0&timeout_seconds=0.5")
            found[f"{key} watch"] = [
                plain(line) for line in seen.text.splitlines() if "heartbeat" not in line
            ]
        index = RouteIndex(await build_routing_table(world.context.store))
        spec = (await world.context.store.get(ApiKey, key)).spec
        who = Principal(key, spec.role, spec.tenant, spec.project)
        found[f"{key} routes"] = [route.model_dump() for route in index.visible(who)]
    return found


def _urls(path: str, parameters: list[dict[str, Any]]) -> list[str]:
    queries = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
    names = [""]
    if "{" in path:
        names = list(ASKED)
    urls = [re.sub(r"\{\w+\}", name, path) for name in names]
    for scope, values in (("project", ("search", "lab", "nobody")), ("tenant", ("acme", "globex"))):
        if scope in queries:
            urls += [f"{url}?{scope}={value}" for url in urls if "?" not in url for value in values]
    return urls


async def test_what_a_tenant_reads_does_not_depend_on_another_tenant(tmp_path: Path) -> None:
    ours = {tenant: project for tenant, project in TENANTS.items() if tenant == OURS[0]}
    async with running_world(tmp_path / "alone", "sqlite", ours) as alone:
        await fill(alone, OURS)
        without = await views(alone)
    async with running_world(tmp_path / "both", "sqlite") as both:
        await fill(both, THEIRS, OURS)
        beside = await views(both)
    assert len(without) > 500
    assert without.keys() == beside.keys()
    other = {what: (answer, beside[what]) for what, answer in without.items() if beside[what] != answer}
    assert not other, other
    told = json.dumps([answer for what, answer in beside.items() if "acme" not in what])
    assert "acme" not in told


# What one writes


async def standing(world: World) -> dict[str, Any]:
    """All that is not ours, and what others reach by each name."""
    store, directory = world.context.store, await world.context.directories.current()
    found: dict[str, Any] = {}
    for kind in KINDS.values():
        for resource in await store.list(kind):
            if directory.owner_of(resource).tenant != OURS[0]:
                found[resource.key] = resource.to_dict()
    index = RouteIndex(await build_routing_table(store))
    for who in (
        Principal("m", "member", *THEIRS),
        Principal("t", "tenant-admin", THEIRS[0]),
        Principal("p", "member", "platform", "models"),
        Principal("a", "platform-admin"),
    ):
        others = [route for route in index.visible(who) if route.tenant != OURS[0]]
        found[f"routes of {who.key}"] = [route.model_dump() for route in others]
    return found


async def ours_is_within_bounds(world: World) -> None:
    """What we have is not more than the platform gave us."""
    store = world.context.store
    models = {(m.project, m.name): m for m in await store.list(Model)}
    projects = [p for p in await store.list(Project) if p.spec.tenant == OURS[0]]
    for project in projects:
        assert project.spec.queues == ["default"], project.key
        assert project.spec.limits.to_dict() == {}, project.key
        for endpoint in await store.list(Endpoint, project=project.name):
            spec = endpoint.spec
            assert spec.queue == "default", endpoint.key
            assert (spec.priority or 0) <= 0, endpoint.key
            assert spec.replicas <= 32, endpoint.key
            assert not spec.shared, endpoint.key
            if endpoint.has_flags:
                assert endpoint.name in ("vetted", "vetted-base"), endpoint.key
                behind = models.get((project.name, spec.model)) or models["models", spec.model]
                assert behind.spec.source in ("org/tiny", "/srv/base"), endpoint.key
        for model in await store.list(Model, project=project.name):
            assert is_open_to(project.name, model.spec.source), model.key
            assert not model.spec.shared, model.key
    for key in await store.list(ApiKey):
        assert key.spec.role != "platform-admin" or key.name == "admin", key.key


async def attack(requests: list[Any]) -> Counter[int]:
    """How often each status was answered to our requests, none of which changed what is not ours."""
    statuses: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        async with running_world(Path(folder), "memory") as world:
            await fill(world, THEIRS, OURS)
            before = await standing(world)
            for key, (method, path, options) in requests:
                answer = await world.request(key, method, path, **options)
                statuses[answer.status_code] += 1
                assert answer.status_code < 500, (path, options, answer.text)
                await ours_is_within_bounds(world)
            assert await standing(world) == before
    return statuses


def test_whatever_one_tenant_writes_nothing_of_others_changes() -> None:
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.tuples(st.sampled_from(WRITERS), writes()), min_size=25, max_size=25))
    def run(requests: list[Any]) -> None:
        statuses.update(asyncio.run(attack(requests)))

    run()
    assert min(statuses[200], statuses[403], statuses[404]) > 20, statuses
