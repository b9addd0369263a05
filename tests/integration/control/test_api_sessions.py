"""Sessions of jobs through the API: who may type, what is passed on to the node, what the audit log keeps."""

from typing import Any

import httpx
import pytest

from common.errors import TooManyRequests
from common.resources import Job, Owner, Workload
from common.resources.workload import RankPlacement
from control.api.routes.sessions import ENDED, NEXT_OFFSET, PIECE_BYTES
from scheduler.sessions import (
    Closed,
    Opened,
    OutputFrom,
    ReceivedFrom,
    Resized,
    Sent,
    SessionAnswer,
    SessionAsk,
    Typed,
)
from tests.fixtures.fabric import FakeFabric, cpu_device
from tests.integration.control.conftest import World, document

pytestmark = pytest.mark.integration
MEMBER = "search-member"
INPUT = "/api/v1/jobs/mine/input"
TYPED: dict[str, Any] = {"project": "search", "attempt": 1, "writer": "w", "number": 1}


def answer(ask: SessionAsk) -> SessionAnswer:
    """A node that answers everything."""
    if isinstance(ask, OutputFrom):
        return SessionAnswer(b"\x1b[1mhello", ask.offset_bytes + 9)
    if isinstance(ask, ReceivedFrom):
        return SessionAnswer(b"bye", ask.offset_bytes + 3, ended=True)
    return SessionAnswer(number=7 if isinstance(ask, Opened) else 0)


@pytest.fixture
async def fabric(world: World) -> FakeFabric:
    """Runs the first attempt of the job ``mine``, which has a session."""
    made = FakeFabric(world.clock, node=[cpu_device("node")])
    made.answer_session = answer
    world.context.fabric = made
    spec = {"session": {"terminal": True, "ports": True}}
    assert (await world.apply(document("Job", "mine", "search", **spec), key=MEMBER)).status_code == 200
    await run(world, "mine")
    return made


async def run(world: World, name: str, attempt: int = 1) -> Workload:
    """What job controller and scheduler would write."""
    store = world.context.store
    job = await store.get(Job, name, "search")
    await world.store_directly("Workload", name, "search")
    workload = await store.get(Workload, name, "search")
    workload.metadata.owner = Owner(kind="Job", name=name, uid=job.metadata.uid)
    workload = (await store.apply(workload)).resource
    workload.status.phase, workload.status.attempt = "Running", attempt
    workload.status.ranks = [RankPlacement(role="worker", replica=0, rank=0, node="node", state="Running")]
    return await store.set_status(workload)


async def post(world: World, path: str, data: bytes = b"", who: str = MEMBER, **query: Any) -> httpx.Response:
    return await world.request(who, "POST", path, content=data, params=query)


async def targets(world: World) -> list[str]:
    entries = (await world.request("admin", "GET", "/api/v1/audit")).json()["items"]
    return [entry["target"] for entry in entries if entry["target"].startswith("/api/v1/jobs")]


@pytest.mark.parametrize(
    ("who", "status"),
    [
        ("admin", 204),
        ("acme-admin", 204),
        (MEMBER, 204),
        ("search-agent", 403),
        ("lab-member", 404),
        ("globex-admin", 404),
        (None, 401),
    ],
)
async def test_who_may_type(world: World, fabric: FakeFabric, who: str | None, status: int) -> None:
    typed = await world.request(who, "POST", INPUT, content=b"ls\n", params=TYPED)
    assert typed.status_code == status, typed.text
    assert len(fabric.session_asks) == (status == 204)


async def test_what_is_typed_reaches_its_rank_and_its_beginning_is_kept(
    world: World, fabric: FakeFabric
) -> None:
    uid = (await world.context.store.get(Workload, "mine", "search")).metadata.uid
    for number in (1, 2, 3):
        assert (await post(world, INPUT, b"x", **{**TYPED, "number": number})).status_code == 204
    assert fabric.session_asks[-1] == (uid, 1, 0, Typed(b"x", f"{MEMBER}/w", 3))
    assert len(await targets(world)) == 1


async def test_a_revoked_key_types_no_more(world: World, fabric: FakeFabric) -> None:
    assert (await post(world, INPUT, b"x", **TYPED)).status_code == 204
    await world.request("admin", "DELETE", f"/api/v1/keys/{MEMBER}")
    assert (await post(world, INPUT, b"x", **{**TYPED, "number": 2})).status_code == 401
    assert len(fabric.session_asks) == 1


@pytest.mark.parametrize(("waited_seconds", "status"), [(0.5, 200), (3.0, 401)])
@pytest.mark.parametrize(
    ("method", "path", "query"),
    [("GET", "output", {"offset": 0}), ("POST", "connections/received", {"connection": 7, "offset": 0})],
)
async def test_a_key_that_is_revoked_while_it_waits_gets_no_more(
    world: World,
    fabric: FakeFabric,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    query: dict[str, Any],
    waited_seconds: float,
    status: int,
) -> None:
    async def slow(node: str, uid: str, attempt: int, rank: int, ask: SessionAsk) -> SessionAnswer:
        await world.request("admin", "DELETE", f"/api/v1/keys/{MEMBER}")
        world.clock.advance(waited_seconds)
        return answer(ask)

    monkeypatch.setattr(fabric, "session", slow)
    where = {"project": "search", "attempt": 1, **query}
    assert (
        await world.request(MEMBER, method, f"/api/v1/jobs/mine/{path}", params=where)
    ).status_code == status


@pytest.mark.parametrize(
    ("changes", "data", "status"),
    [
        ({}, bytes(PIECE_BYTES), 204),
        ({}, bytes(PIECE_BYTES + 1), 413),
        ({"attempt": 2}, b"x", 409),
        ({"attempt": 0}, b"x", 400),
        ({"writer": "../x"}, b"x", 400),
        ({"number": 0}, b"x", 400),
    ],
)
async def test_what_is_typed_is_checked(
    world: World, fabric: FakeFabric, changes: dict[str, Any], data: bytes, status: int
) -> None:
    assert (await post(world, INPUT, data, **{**TYPED, **changes})).status_code == status
    assert len(fabric.session_asks) == (status == 204)


async def test_a_job_without_a_session_or_that_waits_has_none(world: World, fabric: FakeFabric) -> None:
    for name, spec in (("plain", {}), ("waits", {"session": {"terminal": True}})):
        await world.apply(document("Job", name, "search", **spec), key=MEMBER)
    await run(world, "plain")
    assert (await post(world, "/api/v1/jobs/plain/input", b"x", **TYPED)).status_code == 409
    assert (await post(world, "/api/v1/jobs/waits/input", b"x", **TYPED)).status_code == 404
    await world.store_directly("Workload", "waits", "search")  # somebody else's of that name
    assert (await post(world, "/api/v1/jobs/waits/input", b"x", **TYPED)).status_code == 404
    assert fabric.session_asks == []


async def test_a_terminal_that_is_full_says_when_to_try_again(world: World, fabric: FakeFabric) -> None:
    def full(ask: SessionAsk) -> SessionAnswer:
        raise TooManyRequests("full", code="no_room_yet")

    fabric.answer_session = full
    refused = await post(world, INPUT, b"x", **TYPED)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "no_room_yet")


async def test_window_output_and_ports(world: World, fabric: FakeFabric) -> None:
    place: dict[str, Any] = {"project": "search", "attempt": 1}
    size: dict[str, Any] = {"rows": 24, "columns": 80}
    assert (await post(world, "/api/v1/jobs/mine/window", **place, **size)).status_code == 204
    shown = await world.request(MEMBER, "GET", "/api/v1/jobs/mine/output", params={**place, "offset": 5})
    assert (shown.content, shown.headers[NEXT_OFFSET], shown.headers[ENDED]) == (
        b"\x1b[1mhello",
        "14",
        "false",
    )
    path = "/api/v1/jobs/mine/connections"
    opened = await post(world, path, **place, port=8888)
    assert opened.json() == {"connection": 7}
    one: dict[str, Any] = {**place, "connection": 7}
    assert (await post(world, f"{path}/sent", b"GET", **one, offset=0, end=True)).status_code == 204
    received = await post(world, f"{path}/received", **one, offset=2)
    assert (received.content, received.headers[ENDED]) == (b"bye", "true")
    assert (await world.request(MEMBER, "DELETE", path, params=one)).status_code == 204
    asked = [ask for _, _, _, ask in fabric.session_asks]
    assert asked == [
        Resized(24, 80),
        OutputFrom(5),
        Opened(8888),
        Sent(7, 0, b"GET", end=True),
        ReceivedFrom(7, 2),
        Closed(7),
    ]
    assert len(await targets(world)) == 1


async def test_what_a_node_has_forgotten_is_read_from_its_log(world: World, fabric: FakeFabric) -> None:
    fabric.answer_session = None
    uid = (await world.context.store.get(Workload, "mine", "search")).metadata.uid
    fabric.logs[(uid, 1, 0)] = b"the end"
    for offset, data, ended in ((4, b"end", "false"), (7, b"", "true")):
        query = {"project": "search", "attempt": 1, "offset": offset}
        shown = await world.request(MEMBER, "GET", "/api/v1/jobs/mine/output", params=query)
        assert (shown.content, shown.headers[ENDED]) == (data, ended)
