"""Every example is taken by control as it is; the ones that are asked about are answered."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.control.conftest import World, document, running_world

pytestmark = pytest.mark.integration
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
MORE = sorted((EXAMPLES / "more").glob("*.yaml"))


def documents(*files: Path) -> list[dict[str, Any]]:
    return [one for file in files for one in yaml.safe_load_all(file.read_text())]


@pytest.fixture
async def shown(tmp_path: Path) -> AsyncIterator[World]:
    """What `apply -f examples/` makes, and a member of its project."""
    async with running_world(tmp_path, "memory", {}) as world:
        made = await world.apply(*documents(*sorted(EXAMPLES.glob("*.yaml"))))
        assert made.status_code == 200, made.text
        await world.make_key("member", "member", project="acme-agents")
        yield world


@pytest.mark.parametrize("file", MORE, ids=lambda file: file.stem)
async def test_it_is_taken_and_there_is_nothing_odd_about_it(shown: World, file: Path) -> None:
    if file.stem == "node":
        await shown.store_directly("Node", "node-a")
    answer = await shown.apply(*documents(file))
    assert answer.status_code == 200, answer.text
    assert [odd for one in answer.json()["results"] for odd in one.get("warnings", ())] == []
    again = await shown.apply(*documents(file))
    assert {one["outcome"] for one in again.json()["results"]} == {"unchanged"}


@pytest.mark.parametrize(("name", "who"), [("workload", "admin"), ("job", "member"), ("job", "admin")])
async def test_whether_it_would_start_is_answered_before_it_is_applied(
    shown: World, name: str, who: str
) -> None:
    [asked] = documents(EXAMPLES / "more" / f"{name}.yaml")
    answer = await shown.request(who, "POST", "/api/v1/simulate", json=asked)
    assert answer.status_code == 200, answer.text
    assert {one["project"] for one in answer.json()["workloads"]} == {"acme-agents"}
    assert {one["starts"] for one in answer.json()["workloads"]} != {"now"}, "there is no node"
    kept = await shown.request("admin", "GET", "/api/v1/workloads")
    assert kept.json()["items"] == []


async def test_a_member_asks_about_jobs_and_is_told_who_writes_workloads(shown: World) -> None:
    [workload] = documents(EXAMPLES / "more" / "workload.yaml")
    refused = await shown.request("member", "POST", "/api/v1/simulate", json=workload)
    assert refused.status_code == 403
    assert "a Job (`computility run -- COMMAND`)" in refused.json()["error"]["message"]
    endpoint = document("Endpoint", "e", "acme-agents")
    wrong = await shown.request("member", "POST", "/api/v1/simulate", json=endpoint)
    assert wrong.json()["error"]["message"].endswith("`computility plan -f FILE` says what would serve it")


async def test_what_would_help_but_is_not_the_members_is_said_to_be_the_platforms(shown: World) -> None:
    await shown.apply(*documents(EXAMPLES / "more" / "second-tenant.yaml"))
    await shown.make_key("lab", "member", project="globex-lab")
    job = document("Job", "big", "globex-lab", devices={"count": 3}, queue="globex")
    answers = {
        who: (await shown.request(who, "POST", "/api/v1/simulate", json=job)).json()["workloads"][0]["remedy"]
        for who in ("lab", "admin")
    }
    assert answers["lab"].startswith(answers["admin"])
    assert answers["admin"] == "a node joins the Ray cluster"
    assert "a platform-admin's: ask one" in answers["lab"]
