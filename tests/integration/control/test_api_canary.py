"""Whose Models a canary may be of, who may set it, and what it counts for."""

from typing import Any

import httpx
import pytest

from tests.integration.control.conftest import World, document

pytestmark = pytest.mark.integration
PEOPLE = ("search-member", "acme-admin")


def refusal(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json()["error"]["param"] if answer.status_code >= 400 else None


def model(name: str, project: str = "search", **spec: Any) -> dict[str, Any]:
    return document("Model", name, project, **{"source": f"org/{name}", **spec})


def endpoint(canary: dict[str, Any] | None, name: str = "chat", **spec: Any) -> dict[str, Any]:
    more = {"canary": canary} if canary is not None else {}
    return document("Endpoint", name, "search", **{"model": "v1", "servedName": name, **more, **spec})


@pytest.fixture
async def site(world: World) -> World:
    answer = await world.apply(
        model("v1"),
        model("v2"),
        model("v1", "lab"),
        model("lab-only", "lab"),
        model("theirs", "lab", shared=True),
        model("embed", tasks=["embeddings"]),
    )
    assert answer.status_code == 200, answer.text
    return world


@pytest.mark.parametrize("who", PEOPLE)
async def test_it_is_of_a_model_of_the_project_or_a_shared_one(site: World, who: str) -> None:
    assert refusal(await site.apply(endpoint({"model": "v2"}), key=who)) == (200, None)
    assert refusal(await site.apply(endpoint({"model": "theirs"}), key=who)) == (200, None)
    for strange in ("lab-only", "none"):
        answer = await site.apply(endpoint({"model": strange}), key=who)
        assert refusal(answer) == (400, "spec.canary.model")
        assert "no shared one" in answer.json()["error"]["message"]
    answer = await site.apply(endpoint({"model": "embed"}), key=who)
    assert refusal(answer) == (400, "spec.canary.model")
    assert "embed serves embeddings, but v1 serves chat, completions" in answer.json()["error"]["message"]


async def test_a_model_that_a_canary_is_of_is_neither_deleted_nor_withdrawn(site: World) -> None:
    await site.apply(endpoint({"model": "theirs"}), endpoint({"model": "v2"}, "other"))
    assert (await site.request("admin", "DELETE", "/api/v1/models/v2?project=search")).status_code == 409
    assert (await site.request("admin", "DELETE", "/api/v1/models/theirs?project=lab")).status_code == 409
    assert (await site.apply(model("theirs", "lab"))).status_code == 409
    await site.apply(endpoint(None), endpoint(None, "other"))
    assert (await site.request("admin", "DELETE", "/api/v1/models/v2?project=search")).status_code == 200


@pytest.mark.parametrize("who", PEOPLE)
async def test_its_arguments_are_flags_and_flags_are_not_taken_over_by_it(site: World, who: str) -> None:
    flagged = endpoint({"model": "v2", "args": ["--trust-remote-code"]})
    assert refusal(await site.apply(flagged, key=who)) == (403, "spec.canary.args")
    assert refusal(await site.apply(flagged)) == (200, None)
    flagged["spec"]["canary"]["weightPercent"] = 20
    assert refusal(await site.apply(flagged, key=who)) == (200, None)
    flagged["spec"]["canary"]["model"] = "theirs"
    assert refusal(await site.apply(flagged, key=who)) == (403, "spec.canary.model")
    assert refusal(await site.apply(model("v2", source="evil/code"), key=who)) == (403, "spec.source")
    vetted = {"engine": {"args": ["--trust-remote-code"]}}
    await site.apply(endpoint(None, "vetted", **vetted))
    hidden = endpoint({"model": "v2"}, "vetted", **vetted)
    assert refusal(await site.apply(hidden, key=who)) == (403, "spec.canary.model")


@pytest.mark.parametrize("who", PEOPLE)
async def test_of_a_shared_endpoint_it_is_the_platforms(site: World, who: str) -> None:
    shared: dict[str, Any] = {"shared": True}
    await site.apply(endpoint({"model": "v2"}, **shared))
    for other in (None, {"model": "v2", "weightPercent": 100}):
        assert refusal(await site.apply(endpoint(other, **shared), key=who)) == (403, "spec.canary")
    assert refusal(await site.apply(endpoint({"model": "v2"}, replicas=2, **shared), key=who)) == (200, None)


async def test_a_key_for_some_models_does_not_bring_others_in_by_it(site: World) -> None:
    await site.apply(endpoint(None))
    await site.make_key("narrow", "member", project="search", models=["chat"])
    assert refusal(await site.apply(endpoint({"model": "v2"}), key="narrow")) == (403, "spec.canary.model")


async def test_its_engines_count_towards_the_limits(site: World) -> None:
    limits = {"maxReplicas": 4, "maxTotalReplicas": 5}
    await site.apply(document("Project", "search", tenant="acme", limits=limits))
    who = "search-member"
    big = endpoint({"model": "v2", "replicas": 3}, replicas=2)
    assert refusal(await site.apply(big, key=who)) == (403, "spec.limits.maxReplicas")
    assert refusal(await site.apply(endpoint({"model": "v2", "replicas": 2}, replicas=2), key=who)) == (
        200,
        None,
    )
    one_more = endpoint({"model": "v2"}, "other")
    assert refusal(await site.apply(one_more, key=who)) == (403, "spec.limits.maxTotalReplicas")


async def test_explain_tells_of_both_sides(site: World) -> None:
    await site.apply(endpoint({"model": "v2", "weightPercent": 5}))
    path = "/api/v1/endpoints/chat/explain?project=search"
    found = (await site.request("search-member", "GET", path)).json()
    assert (found["canary"]["canary"]["model"], found["canary"]["stable"]["weightPercent"]) == ("v2", 95)
    assert [role["role"] for role in found["roles"]] == ["", "canary"]
    await site.apply(endpoint(None))
    assert "canary" not in (await site.request("search-member", "GET", path)).json()
