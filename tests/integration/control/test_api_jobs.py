"""Jobs through the API: who may make them, what they may ask for, and what stays as it was made."""

from typing import Any

import httpx
import pytest

from common.labels import KEY_LABEL, SANDBOX_LABEL
from common.resources import Node
from tests.integration.control.conftest import World, document

pytestmark = pytest.mark.integration
MEMBER = "search-member"


def job(name: str = "train", **spec: Any) -> dict[str, Any]:
    return document("Job", name, "search", **spec)


def told(answer: httpx.Response) -> tuple[int, str | None]:
    """The status, and what the error says that is wrong."""
    return answer.status_code, answer.json().get("error", {}).get("param")


async def node(world: World, cells: str) -> None:
    await world.store_directly("Node", "n")
    stored = await world.context.store.get(Node, "n")
    stored.status.labels = {SANDBOX_LABEL: cells}
    await world.context.store.set_status(stored)


@pytest.mark.parametrize(
    ("who", "status"), [("admin", 200), ("acme-admin", 200), (MEMBER, 200), ("search-agent", 403)]
)
async def test_who_may_make_jobs(world: World, who: str, status: int) -> None:
    assert (await world.apply(job(), key=who)).status_code == status


async def test_others_do_not_see_it(world: World) -> None:
    await world.apply(job(), key=MEMBER)
    path = "/api/v1/jobs/train?project=search"
    assert (await world.request(MEMBER, "GET", path)).status_code == 200
    assert (await world.request("lab-member", "GET", path)).status_code == 404
    assert (await world.request("lab-member", "DELETE", path)).status_code == 404
    assert (await world.apply(job("mine"), key="lab-member")).status_code == 404


async def test_it_is_made_once(world: World) -> None:
    assert (await world.apply(job(retries=2), key=MEMBER)).status_code == 200
    assert (await world.apply(job(retries=2), key=MEMBER)).json()["results"][0]["outcome"] == "unchanged"
    assert told(await world.apply(job(retries=3), key=MEMBER)) == (400, "spec")
    assert told(await world.apply(job(retries=2, cancelled=True), key=MEMBER)) == (200, None)
    assert told(await world.apply(job(retries=2), key=MEMBER)) == (400, "spec.cancelled")
    assert (await world.request(MEMBER, "DELETE", "/api/v1/jobs/train?project=search")).status_code == 200


async def test_it_is_that_keys_which_made_it(world: World) -> None:
    forged = job()
    forged["metadata"]["annotations"] = {KEY_LABEL: "somebody"}
    made = (await world.apply(forged, key=MEMBER)).json()["results"][0]["resource"]
    again = (await world.apply(job(), key="acme-admin")).json()["results"][0]["resource"]
    assert made["metadata"]["annotations"] == {KEY_LABEL: MEMBER} == again["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("spec", "param"),
    [
        ({"network": True}, "spec.network"),
        ({"replicas": 2}, "spec.replicas"),
        ({"folder": "file-none"}, "spec.folder"),
        ({"queue": "none"}, "spec.queue"),
        ({"priority": 900}, "spec.priority"),
        ({"artefacts": ["../other"]}, "spec.artefacts[0]"),
        ({"artefacts": ["/etc"]}, "spec.artefacts[0]"),
        ({"command": []}, "spec.command"),
        ({"retries": 101}, "spec.retries"),
    ],
)
async def test_what_a_tenant_may_not_ask_for_is_said(world: World, spec: dict[str, Any], param: str) -> None:
    answer = await world.apply(job(**spec), key=MEMBER)
    assert told(answer)[0] in (400, 403)
    assert told(answer)[1] == param


async def test_a_file_of_another_purpose_is_no_folder(world: World) -> None:
    await world.store_directly("File", "file-1", "search")
    answer = await world.apply(job(folder="file-1"), key=MEMBER)
    assert "upload it with purpose 'job-folder'" in answer.json()["error"]["message"]


async def test_where_no_cell_can_be_made_it_says_what_to_do(world: World) -> None:
    await node(world, "missing")
    answer = await world.apply(job(), key=MEMBER)
    assert told(answer) == (403, "spec")
    message = answer.json()["error"]["message"]
    assert "bubblewrap" in message
    assert "COMPUTILITY_JOBS__ALLOW_UNCONFINED=true" in message
    await world.request("admin", "DELETE", "/api/v1/nodes/n")


async def test_a_project_has_only_so_many_that_go_on(world: World) -> None:
    limited = document("Project", "search", tenant="acme", limits={"maxJobs": 2, "maxReplicas": 1})
    assert (await world.apply(limited)).status_code == 200
    three = [job(f"j{n}") for n in range(3)]
    assert told(await world.apply(*three, key=MEMBER)) == (403, "[0].spec.limits.maxJobs")
    assert (await world.apply(*three[:2], key=MEMBER)).status_code == 200
    assert told(await world.apply(three[2], key=MEMBER)) == (403, "spec.limits.maxJobs")
    shown = (await world.request(MEMBER, "GET", "/api/v1/projects/search/limits")).json()["items"]
    assert next(row["used"] for row in shown if row["name"] == "maxJobs") == 2


async def test_a_name_that_a_workload_has_is_taken(world: World) -> None:
    await world.store_directly("Workload", "train", "search")
    assert told(await world.apply(job(), key=MEMBER)) == (409, "metadata.name")
