"""What control answers is passed on as it is, and says nothing of the inner servers."""

from pathlib import Path

import pytest

from common.wire import JSON_LIMIT_BYTES, MULTIPART_OVERHEAD_BYTES
from inference.gateway.control_link.proxy import is_proxied
from tests.unit.inference.gateway.front_scene import Front, front_scene


@pytest.fixture
async def open_front(front: Front) -> Front:
    """With control there."""
    await front.start_control()
    return front


@pytest.mark.parametrize(
    ("method", "path", "passed"),
    [
        ("GET", "/v1/files", True),
        ("GET", "/v1/files/a/content", True),
        ("POST", "/v1/fine_tuning/jobs", True),
        ("GET", "/v1/filesystem", False),
        ("GET", "/v1/files/../models", False),
        ("GET", "/v1/files/./a", False),
        ("GET", "/v1/files/..", False),
        ("DELETE", "/v1/models/m", True),
        ("GET", "/v1/models/m", False),
        ("DELETE", "/v1/models", False),
    ],
)
def test_only_what_control_serves_is_passed_on_and_no_dot_leads_elsewhere(
    method: str, path: str, passed: bool
) -> None:
    assert is_proxied(method, path) is passed


async def test_a_request_comes_as_it_was_sent_and_so_does_its_answer(open_front: Front) -> None:
    answer = await open_front.ask(b"x" * 70_000, "/v1/files?purpose=a%20b", x_request_id="mine-3", x_own="1")
    assert answer.json == {"path": "/v1/files?purpose=a%20b", "method": "POST"}
    assert (answer.headers["x-from"], answer.headers["x-request-id"]) == ("control", "mine-3")
    assert open_front.control.uploads == [b"x" * 70_000]
    [seen] = open_front.control.seen_headers
    names = {name.lower(): value for name, value in seen.items()}
    assert (names["x-request-id"], names["x-own"]) == ("mine-3", "1")
    assert names["authorization"] == "Bearer ck-alice"


async def test_what_belongs_to_one_connection_is_not_passed_on(open_front: Front) -> None:
    await open_front.ask(path="/v1/files", te="trailers", keep_alive="5", upgrade="h2c", host="public")
    [seen] = open_front.control.seen_headers
    assert {name.lower() for name in seen} & {"te", "keep-alive", "upgrade"} == set()
    assert seen["Host"] != "public"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_a_body_that_is_not_passed_on_takes_nothing_of_the_next_request(
    open_front: Front, method: str
) -> None:
    """Both go over one connection to control."""
    await open_front.ask(b"hello", "/v1/files/a", method, content_length="5")
    assert (await open_front.ask(path="/v1/files/b")).json == {"path": "/v1/files/b", "method": "GET"}
    assert all("Content-Length" not in seen for seen in open_front.control.seen_headers)


async def test_no_answer_tells_of_the_inner_server(open_front: Front) -> None:
    answer = await open_front.ask(path="/v1/files/moved")
    assert answer.status == 307, "it is not followed either"
    assert {"location", "server", "date"} & answer.headers.keys() == set()
    assert list(answer.headers).count("x-request-id") == 1


async def test_a_conflict_is_not_to_be_tried_again(open_front: Front) -> None:
    answer = await open_front.ask(path="/v1/files/conflict")
    assert (answer.status, answer.headers["x-should-retry"]) == (409, "false")
    assert "x-should-retry" not in (await open_front.ask(path="/v1/files")).headers


async def test_the_deletion_of_a_model_is_passed_on(open_front: Front) -> None:
    answer = await open_front.ask(path="/v1/models/ft:a", method="DELETE")
    assert answer.json == {"path": "/v1/models/ft:a", "method": "DELETE"}


async def test_a_stranger_does_not_reach_control(open_front: Front) -> None:
    assert (await open_front.ask(path="/v1/files", secret="ck-unknown")).status == 401
    assert open_front.control.seen_headers == []


async def test_without_control_a_client_is_told_when_to_come_back(front: Front) -> None:
    answer = await front.ask(path="/v1/files")
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert "control, which answers this, is not available" in answer.error["message"]


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/v1/fine_tuning/jobs", JSON_LIMIT_BYTES), ("/v1/files", 512 * 1024**2 + MULTIPART_OVERHEAD_BYTES)],
)
async def test_what_is_announced_as_too_long_does_not_reach_control(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, limit: int
) -> None:
    async with front_scene(tmp_path, monkeypatch) as front:
        await front.start_control()
        answer = await front.ask(b"x", path, content_length=str(limit + 1))
        assert (answer.status, "over the limit" in answer.error["message"]) == (413, True)
        assert front.control.seen_headers == []
        await front.ask(b"x", path, content_length="1")
        assert len(front.control.seen_headers) == 1


async def test_a_download_ends_with_its_client(open_front: Front) -> None:
    visit = open_front.visit(path="/v1/files/endless")
    visit._on_part = lambda visit, part: visit.leave()
    answer = await visit.made_to(open_front.gateway)
    assert not answer.ended
    assert len(answer.body) < 50 * 65536
