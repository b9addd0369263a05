"""Following a job to its end, against a control that is played by a function: nothing hangs, nothing is shown
twice, and what comes back stays in its folder."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.client import Client
from common.errors import ComputilityError, InvalidInput, TooLarge, Unavailable
from control.cli.work import following
from control.cli.work.following import Following, bring, cancel, exit_code_of
from tests.unit.control.cli.test_commands import Answer, control, error, run

__all__ = ["control"]
Install = Callable[[Answer], list[httpx.Request]]
NOT_THERE = error(404, "not_found", "there is no log")


def job(phase: str = "Running", attempts: int = 1, **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Job",
        "metadata": {"name": "train", "project": "lab", "resourceVersion": 3, "uid": "u"},
        "spec": {"command": ["true"], "replicas": 1, "artefacts": ["output"]},
        "status": {"phase": phase, "attempts": attempts, **status},
    }


class Played:
    """A control that shows the jobs one after the other, the last for ever, and the logs by attempt."""

    def __init__(self, *jobs: dict[str, Any] | None, logs: dict[int, str] | None = None) -> None:
        self.jobs, self.logs = list(jobs), logs or {}
        self.said: list[str] = []
        self.shown: list[str] = []
        self.slept = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/logs"):
            text = self.logs.get(int(request.url.params["attempt"]))
            return NOT_THERE if text is None else httpx.Response(200, text=text)
        shown = self.jobs.pop(0) if len(self.jobs) > 1 else self.jobs[0]
        if shown is None:
            raise httpx.ConnectError("away")
        return httpx.Response(200, json=shown)

    def follow(self) -> dict[str, Any]:
        def sleep(seconds: float) -> None:
            self.slept += seconds
            assert self.slept < 1000, "it hangs"

        with Client("http://control", "ck", transport=httpx.MockTransport(self)) as client:
            one = Following(client, "train", "lab", say=self.said.append, show=self.shown.append, sleep=sleep)
            return one.until_end()


def test_every_attempt_is_shown_once_from_its_beginning() -> None:
    played = Played(
        job("Pending", 0),
        job(),
        job("Retrying"),
        job(attempts=2),
        job("Succeeded", 2),
        logs={1: "a\nb\n", 2: "c\n"},
    )
    assert played.follow()["status"]["phase"] == "Succeeded"
    assert played.shown == ["a", "b", "c"]


def test_what_an_attempt_printed_and_is_gone_holds_nobody_up() -> None:
    """Its node was lost, or the log's time is over."""
    played = Played(job(attempts=2), job("Succeeded", 2), logs={2: "c\n"})
    played.follow()
    assert played.shown == ["c"]
    assert "what attempt 1 printed is not there any more" in played.said


def test_one_that_ended_without_a_log_has_ended() -> None:
    assert Played(job(), job("Failed")).follow()["status"]["phase"] == "Failed"


def test_control_may_be_away_for_a_while() -> None:
    away: list[dict[str, Any] | None] = [None] * 40
    played = Played(job("Pending", 0), *away, job("Succeeded"), logs={1: "a\n"})
    played.follow()
    assert played.shown == ["a"]
    with pytest.raises(Unavailable):
        Played(None).follow()


class Cut:
    """A log whose connection breaks after two lines, once."""

    def __init__(self, played: Played) -> None:
        self.played, self.cuts = played, 1

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/logs") and self.cuts:
            self.cuts -= 1
            return httpx.Response(200, stream=Broken(b"a\nb\nc"))
        return self.played(request)


class Broken(httpx.SyncByteStream):
    def __init__(self, content: bytes) -> None:
        self.content = content

    def __iter__(self) -> Any:
        yield self.content
        raise httpx.ReadError("reset")


def test_after_a_break_it_goes_on_where_it_was() -> None:
    played = Played(job(), job(), job("Succeeded"), logs={1: "a\nb\nc\nd\n"})
    with Client("http://control", "ck", transport=httpx.MockTransport(Cut(played))) as client:
        Following(
            client, "train", "lab", say=played.said.append, show=played.shown.append, sleep=lambda _: None
        ).until_end()
    assert played.shown == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"phase": "Succeeded", "exitCode": 0}, 0),
        ({"phase": "Failed", "exitCode": 7}, 7),
        ({"phase": "Failed", "exitCode": 143, "reason": "DeadlineExceeded"}, 124),
        ({"phase": "Failed"}, 1),
        ({"phase": "Failed", "exitCode": 0}, 1),
        ({"phase": "Cancelled", "exitCode": 143}, 130),
    ],
)
def test_the_exit_code_says_how_it_ended(status: dict[str, Any], code: int) -> None:
    assert exit_code_of({"status": status}) == code


def test_who_cancels_is_not_held_up_by_the_jobs_own_progress() -> None:
    written: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=job())
        written.append(json.loads(request.content))
        if len(written) < 3:
            return error(409, "conflict", "changed meanwhile")
        return httpx.Response(200, json={"results": [{"outcome": "configured"}]})

    with Client("http://control", "ck", transport=httpx.MockTransport(answer)) as client:
        assert cancel(client, "train", "lab") == "Running"
    assert [one["spec"]["cancelled"] for one in written] == [True] * 3
    assert written[0]["metadata"] == {"name": "train", "project": "lab", "resourceVersion": 3}


def archive(*names: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, 1 if kind == tarfile.REGTYPE else 0, "/etc"
            packed.addfile(entry, io.BytesIO(b"x"))
    return buffer.getvalue()


def brought(content: bytes, target: Path) -> bool:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=content))
    with Client("http://control", "ck", transport=transport) as client:
        return bring(client, job("Succeeded", artefacts="file-1"), target)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("left", "here"), [(["output/a", "output/b/c"], ["a", "b/c"]), (["output/a", "m/b"], ["m/b", "output/a"])]
)
def test_what_it_left_is_brought_into_a_new_folder(tmp_path: Path, left: list[str], here: list[str]) -> None:
    assert brought(archive(*left), tmp_path / "deep" / "results")
    assert files(tmp_path / "deep" / "results") == here
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["results"]


@pytest.mark.parametrize(
    "content",
    [
        archive("../evil"),
        archive("/tmp/evil"),
        archive("output/../../evil"),
        archive("output", kind=tarfile.SYMTYPE),
        archive("output/a", kind=tarfile.LNKTYPE),
        archive("output/a", kind=tarfile.CHRTYPE),
        archive("a", "a/b"),
        archive("x" * 300),
        b"no archive",
        b"",
    ],
)
def test_nothing_of_a_hostile_archive_stays(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ComputilityError):
        brought(content, tmp_path / "results")
    assert list(tmp_path.iterdir()) == []


def test_it_never_takes_all_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_room_bytes", lambda folder: 50_000)
    bomb = io.BytesIO()
    with tarfile.open(fileobj=bomb, mode="w:gz") as packed:
        entry = tarfile.TarInfo("output/zeros")
        entry.size = 10**6
        packed.addfile(entry, io.BytesIO(bytes(10**6)))
    for content in (bomb.getvalue(), bytes(60_000)):
        with pytest.raises(TooLarge):
            brought(content, tmp_path / "results")
    assert list(tmp_path.iterdir()) == []


def test_what_is_here_already_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    assert brought(archive("output/a"), tmp_path / "results")
    with pytest.raises(InvalidInput, match="already"):
        brought(archive("output/b"), tmp_path / "results")
    assert files(tmp_path / "results") == ["a"]
    with pytest.raises(InvalidInput, match="cannot be written"):
        brought(archive("output/a"), tmp_path / "results" / "a" / "below")


def test_a_job_that_is_there_is_not_taken_for_a_new_one(
    control: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    results = {"results": [{"outcome": "unchanged", "resource": job("Succeeded")}]}
    seen = control(lambda request: httpx.Response(200, json=results))
    assert run("run", "-p", "lab", "--name", "train", "--no-folder", "--", "true") == 5
    assert "there is a job train already" in capsys.readouterr().err
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cancel", "train"], "job/train has ended: Succeeded"),
        (["artefacts", "train", "-O", "new"], "has left nothing in output"),
        (["attach", "train", "--rank", "1"], "has no rank 1"),
    ],
)
def test_what_cannot_be_done_with_a_job_is_said(
    control: Install, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    seen = control(lambda request: httpx.Response(200, json=job("Succeeded")))
    run("jobs", *arguments, "-p", "lab")
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
    assert {request.method for request in seen} <= {"GET"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gpus", "1", "--cpu", "2"], "choose one of them"),
        (["--deadline", "soon"], "is no time"),
        (["--deadline", "0s"], "is no time"),
        (["--env", "NOT_SET_ANYWHERE_HERE"], "is not set here"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    control: Install, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    seen = control(lambda request: error(500, "x", "x"))
    assert run("run", "-p", "lab", *arguments, "--", "true") == 2
    assert said in capsys.readouterr().err
    assert seen == []
