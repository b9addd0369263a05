"""Who may decide what runs on nodes and which files engines read: the platform, and nobody else."""

from typing import Any

import httpx
import pytest

from tests.integration.control.conftest import World, document

pytestmark = pytest.mark.integration
TENANTS = ("search-member", "acme-admin")
OWN_WORKLOAD = "/api/v1/workloads/w?project=search"


def refusal(answer: httpx.Response) -> tuple[int, str | None]:
    error = answer.json()["error"]
    assert error["param"] is None or error["param"] in error["message"]
    return answer.status_code, error["param"]


@pytest.mark.parametrize("who", TENANTS)
async def test_tenants_see_their_workloads_but_neither_write_nor_delete_them(world: World, who: str) -> None:
    await world.store_directly("Workload", "w", "search")
    assert (await world.request(who, "GET", OWN_WORKLOAD)).status_code == 200
    applied = await world.apply(document("Workload", "mine", "search"), key=who)
    deleted = await world.request(who, "DELETE", OWN_WORKLOAD)
    assert (applied.status_code, deleted.status_code) == (403, 403)
    assert "platform-admin" in applied.json()["error"]["message"]
    assert (await world.request("admin", "DELETE", OWN_WORKLOAD)).status_code == 200


@pytest.mark.parametrize("who", TENANTS)
@pytest.mark.parametrize(
    ("field", "theirs", "other"), [("args", ["--a"], ["--b"]), ("env", {"A": "1"}, {"A": "2"})]
)
async def test_only_the_platform_sets_what_an_engine_is_started_with(
    world: World, who: str, field: str, theirs: Any, other: Any
) -> None:
    await world.apply(document("Model", "tiny", "search"))

    def endpoint(name: str, **spec: Any) -> dict[str, Any]:
        return document("Endpoint", name, "search", **spec)

    made = await world.apply(endpoint("new", engine={field: theirs}), key=who)
    assert refusal(made) == (403, f"spec.engine.{field}")
    assert (await world.apply(endpoint("e", engine={field: theirs}))).status_code == 200
    for changed in ({field: other}, {}):
        assert refusal(await world.apply(endpoint("e", engine=changed), key=who)) == (
            403,
            f"spec.engine.{field}",
        )
    scaled = await world.apply(endpoint("e", replicas=2, engine={field: theirs, "maxAdapters": 2}), key=who)
    assert scaled.status_code == 200, scaled.text
    assert (
        await world.apply(endpoint("plain", engine={"maxContextTokens": 512}), key=who)
    ).status_code == 200


FOREIGN_PATHS = [
    "/etc",
    "~/models/m",
    "./m",
    "../m",
    "$(HOME_DIR)",
    "$(HOME_DIR)/models",
    "$(HOME_DIR)/files/file-1",
    "$(HOME_DIR)/models/../files",
    "$(HOME_DIR)/models/$(ENGINE_KEY)",
    "a/b/c",
    "a/..",
    "--trust-remote-code",
    "s3://bucket/m",
    "$(HOME_DIR)/models/tiny",
    "$(HOME_DIR)/models/search",
    "$(HOME_DIR)/models/search/../lab/m",
    "$(HOME_DIR)/models/search2/m",
    "$(HOME_DIR)/models/lab/m",
]
OPEN_SOURCES = [
    "$(HOME_DIR)/models/search/m",
    "$(HOME_DIR)/models/search/b-1.0/c/",
    "Qwen/Qwen3-0.6B",
    "gpt2",
]


@pytest.mark.parametrize("who", TENANTS)
async def test_tenants_name_hub_models_and_folders_of_their_project_and_no_other_path(
    world: World, who: str
) -> None:
    for source in FOREIGN_PATHS:
        answer = await world.apply(document("Model", "m", "search", source=source), key=who)
        assert refusal(answer) == (403, "spec.source"), source
    for source in OPEN_SOURCES:
        answer = await world.apply(document("Model", "m", "search", source=source), key=who)
        assert answer.status_code == 200, answer.text


async def test_a_path_that_the_platform_has_named_may_stay(world: World) -> None:
    await world.apply(document("Model", "m", "search", source="/srv/m"))
    changed = document("Model", "m", "search", source="/srv/m", tasks=["chat"])
    assert (await world.apply(changed, key="search-member")).status_code == 200
