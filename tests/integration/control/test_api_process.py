"""The process itself where it cannot start, and its client where nothing answers."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from common.client import Client
from common.error_bodies import error_from_body
from common.errors import IdempotencyMismatch, InvalidInput, NotFound, Unavailable, mapping_of
from common.settings import Settings, child_environment
from tests.fixtures.ports import free_port

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]


def test_a_taken_port_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = child_environment(Settings(home=tmp_path), COMPUTILITY_CONTROL__PORT=str(port))
        done = subprocess.run(
            [sys.executable, "-m", "control.main"],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 7
    assert f"127.0.0.1:{port}" in done.stderr
    assert "COMPUTILITY_CONTROL__PORT" in done.stderr
    assert "--control-port" in done.stderr


def test_the_client_says_that_control_does_not_run() -> None:
    with (
        Client(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(Unavailable, match="computility up"),
    ):
        client.whoami()


def test_error_bodies_become_typed_errors() -> None:
    problems = [{"path": "p", "message": "m"}]
    body = json.dumps({"error": {"message": "no", "code": "x", "param": "spec.a", "problems": problems}})
    error = error_from_body(400, body)
    assert isinstance(error, InvalidInput)
    assert (error.code, error.param, error.problems[0].path) == ("x", "spec.a", "p")
    assert isinstance(error_from_body(404, body), NotFound)
    assert isinstance(error_from_body(422, body), IdempotencyMismatch)
    assert mapping_of(error_from_body(503, "<html>")).exit_code == 6


def test_a_write_whose_answer_got_lost_is_sent_again_with_the_same_key() -> None:
    keys = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ReadError("connection reset", request=request)
        return httpx.Response(200, json={"results": [{"outcome": "created", "resource": {}}]})

    with Client("http://control", "ck-x", transport=httpx.MockTransport(answer)) as client:
        assert client.apply({"kind": "Tenant"})["outcome"] == "created"
    assert len(keys) == 2
    assert len(set(keys)) == 1
