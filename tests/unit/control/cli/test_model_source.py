"""A model that no engine can have is refused before anything is started for it."""

from pathlib import Path

import httpx
import pytest

from control.demo.hub import lack_on_hub
from tests.unit.control.cli.test_commands import run

HUB = {"HF_ENDPOINT": "http://hub", "HF_HOME": "/no/such/cache"}


@pytest.mark.parametrize("command", [("up",), ("demo",), ("examples",)])
@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("/no/such/folder", "there is no folder /no/such/folder"),
        ("a/b/c", "there is no folder a/b/c"),
        ("nope", "not to be asked about nope, and this machine's cache of the hub has no copy"),
        ("what is this?", "neither a folder nor the name of a model on a hub"),
    ],
)
def test_nothing_is_started_for_a_model_that_is_not_there(
    command: tuple[str, ...],
    model: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("COMPUTILITY_HOME", str(tmp_path / "home"))
    assert run(*command, "--model", model) == 2
    told = capsys.readouterr()
    assert said in " ".join(told.err.split())
    assert told.out == ""
    assert not (tmp_path / "home").exists()


def asked(answer: httpx.Response | Exception, model: str = "org/model") -> str:
    """What is said after that answer of the hub."""

    def handle(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == f"http://hub/api/models/{model}"
        assert "authorization" not in request.headers
        if isinstance(answer, Exception):
            raise answer
        return answer

    return lack_on_hub(model, HUB, httpx.MockTransport(handle))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_the_hub_does_not_give_is_refused(status: int) -> None:
    assert "has no model nope that can be fetched without a token" in asked(httpx.Response(status), "nope")
    assert "agreed to its terms" in asked(httpx.Response(200, json={"gated": "manual"}))


def test_what_the_hub_has_or_cannot_say_now_is_tried() -> None:
    assert asked(httpx.Response(200, json={"gated": False})) == ""
    assert asked(httpx.Response(200, text="<html>")) == ""
    assert asked(httpx.Response(503)) == ""


def test_without_a_hub_only_a_copy_here_will_do(tmp_path: Path) -> None:
    assert "cannot be asked about org/model (no route)" in asked(httpx.ConnectError("no route"))
    assert "cannot be asked about org/model" in lack_on_hub(
        "org/model", {**HUB, "HF_ENDPOINT": "http://a b:x"}
    )
    copy = tmp_path / "models--org--model" / "snapshots" / "1"
    copy.mkdir(parents=True)
    (copy / "config.json").write_text("{}")
    assert lack_on_hub("org/model", {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}) == ""
