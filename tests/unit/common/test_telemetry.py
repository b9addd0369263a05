"""The log of a process: lines that say what they are told, and that hold up nobody when the disk is full."""

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from common.settings import Settings
from common.telemetry import configure_logging, get_logger


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that the process logs to."""
    path = tmp_path / "log"
    with path.open("a") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        configure_logging(Settings(home=tmp_path, log_format="json"), "test")
        yield path
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def test_a_line_is_a_line(log: Path) -> None:
    get_logger("one").warning("half a character", text="\ud800\n")
    get_logger("two").info("second")
    first, second = (json.loads(line) for line in log.read_text().splitlines())
    assert (first["process"], first["logger_name"], first["level"]) == ("test", "one", "warning")
    assert (first["text"], second["event"]) == ("\ud800\n", "second")


def test_a_log_that_cannot_be_written_holds_up_nobody(log: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        try:
            os.write(os.open(log, os.O_WRONLY), b"x")
        except OSError:
            get_logger("one").error("there is no room")
        else:
            pytest.fail("the disk is not full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    get_logger("one").error("there is room again")
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()] == ["there is room again"]
