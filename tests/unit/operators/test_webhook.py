"""What the webhook makes of control's answers."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from common.clock import VirtualClock
from common.settings import OperatorSettings, Settings
from operators.control.link import ACT_AS, ControlLink
from operators.core.reconcile import MARK
from operators.webhook import Webhook

Answer = Callable[[httpx.Request], httpx.Response]


class Spaces:
    """Namespaces, in place of a cluster."""

    def __init__(self) -> None:
        self.asked = 0

    async def get(self, path: str) -> dict[str, Any]:
        self.asked += 1
        return {"metadata": {"name": path.rpartition("/")[2], "uid": "cluster"}}


def webhook(answer: Answer, mode: str = "warn", seconds: float = 20.0) -> tuple[Webhook, Spaces]:
    spaces = Spaces()
    link = ControlLink(["http://control"], lambda: "ck-1", transport=httpx.MockTransport(answer))
    settings = Settings(operator=OperatorSettings(webhook_unavailable=mode, webhook_seconds=seconds))
    return Webhook(spaces, link, settings, VirtualClock()), spaces  # type: ignore[arg-type]


def body(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Model",
        "metadata": {"name": "m", "namespace": "team", "uid": "u"},
        "spec": {"source": "a/b", **spec},
    }


def review(operation: str = "CREATE", new: Any = None, old: Any = None, who: str = "me") -> dict[str, Any]:
    request = {"uid": "r", "operation": operation, "object": new, "oldObject": old}
    return {"request": {**request, "userInfo": {"username": who}}}


def error(status: int, code: str = "invalid_value", path: str = "", problem: str = "") -> httpx.Response:
    content: dict[str, Any] = {"message": f"{path}: no", "code": code, "param": path or None}
    if problem:
        content["problems"] = [{"path": path, "message": "no", "code": problem}]
    return httpx.Response(status, json={"error": content})


def applied(request: httpx.Request) -> httpx.Response:
    assert request.url.params["dryRun"] == "true"
    assert request.headers[ACT_AS] == "member/team"
    return httpx.Response(200, json={"results": [{"outcome": "created", "resource": {}}]})


async def test_what_control_takes_passes_and_namespaces_are_remembered() -> None:
    judge, spaces = webhook(applied)
    for _ in range(3):
        response = (await judge.review(review(new=body())))["response"]
        assert response == {"uid": "r", "allowed": True}
    assert spaces.asked == 2


@pytest.mark.parametrize(
    ("answer", "allowed", "says"),
    [
        (error(400, path="spec.source"), False, "spec.source"),
        (error(403, "forbidden"), False, "no"),
        (error(409, "conflict"), False, "no"),
        (error(400, path="spec.model", problem="not_found"), True, "not yet"),
        (error(400, path="spec.model", problem="invalid"), False, "spec.model"),
        (error(404, "not_found"), True, "not yet"),
        (error(503, "unavailable"), True, "no opinion"),
        (error(429, "rate"), True, "no opinion"),
        (error(401, "invalid_api_key"), True, "no opinion"),
    ],
)
async def test_verdicts(answer: httpx.Response, allowed: bool, says: str) -> None:
    judge, _ = webhook(lambda _: answer)
    response = (await judge.review(review(new=body())))["response"]
    assert response["allowed"] is allowed
    assert says in str(response.get("warnings") or response["status"])


async def test_a_cause_names_the_path_once() -> None:
    judge, _ = webhook(lambda _: error(400, path="spec.source"))
    status = (await judge.review(review(new=body())))["response"]["status"]
    assert status["details"]["causes"] == [
        {"reason": "FieldValueInvalid", "field": "spec.source", "message": "no"}
    ]


async def test_wrong_documents_are_refused_without_asking() -> None:
    def nobody(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request.url)

    judge, _ = webhook(nobody)
    response = (await judge.review(review(new=body(tasks=["sing"]))))["response"]
    assert response["status"]["details"]["causes"][0]["field"] == "spec.tasks[0]"


async def test_silence_is_bounded_and_the_setting_says_what_it_means() -> None:
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    for mode, allowed in (("warn", True), ("refuse", False)):
        judge, _ = webhook(applied, mode, 0.01)
        judge._link = ControlLink(["http://control"], lambda: "k", transport=Silent())
        assert (await judge.review(review(new=body())))["response"]["allowed"] is allowed


LEAVING = {**body(source="x"), "metadata": {**body()["metadata"], "deletionTimestamp": "t"}}


@pytest.mark.parametrize(
    ("operation", "new", "old", "who"),
    [
        ("UPDATE", body(), body(), "me"),
        (
            "UPDATE",
            {**body(source="x"), "metadata": {**body()["metadata"], "deletionTimestamp": "t"}},
            body(),
            "me",
        ),
        ("DELETE", None, body(), "system:serviceaccount:kube-system:namespace-controller"),
        ("DELETE", None, {**body(), "kind": "ApiKey"}, "me"),
    ],
)
async def test_what_changes_nothing_in_control_passes(operation: str, new: Any, old: Any, who: str) -> None:
    def nobody(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request.url)

    judge, _ = webhook(nobody)
    assert (await judge.review(review(operation, new, old, who)))["response"]["allowed"]


@pytest.mark.parametrize(("mark", "allowed"), [("cluster/team/m", False), ("cluster/other/m", True)])
async def test_what_is_in_use_stays_where_it_is_ours(mark: str, allowed: bool) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"metadata": {"annotations": {MARK: mark}}})
        return error(409, "in_use")

    judge, _ = webhook(answer)
    assert (await judge.review(review("DELETE", None, body())))["response"]["allowed"] is allowed
