"""A training file is checked in a process that takes no more than it was given."""

import asyncio
import json
import threading
import time
from pathlib import Path

import pytest

from common.errors import InvalidInput, Unavailable
from common.settings import TuningSettings
from finetune.files.dataset import DatasetChecks, ProcessCheck

GOOD = json.dumps(
    {"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]}
).encode()
LEAST_MEMORY_BYTES = 128 * 1024**2


async def test_a_dozen_requests_for_a_large_file_hold_up_nothing(tmp_path: Path) -> None:
    """The default threads stay free for others and the loop answers, while the file is checked once."""
    path = tmp_path / "large.jsonl"
    path.write_bytes((GOOD + b"\n") * 150_000 + b"{bad\n")
    checks = DatasetChecks(TuningSettings())
    asked = [asyncio.create_task(checks.examples("lab", "aa", path, "training_file")) for _ in range(12)]
    longest_gap, looks, began = 0.0, 0, time.monotonic()
    while not all(task.done() for task in asked):
        before = time.monotonic()
        await asyncio.to_thread(threading.get_ident)
        await asyncio.sleep(0.01)
        longest_gap, looks = max(longest_gap, time.monotonic() - before), looks + 1
    checked_seconds = time.monotonic() - began
    assert looks > 5
    assert longest_gap < max(1, checked_seconds / 2)
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(error, InvalidInput) and "line 150001" in str(error) for error in errors)
    started = time.monotonic()
    with pytest.raises(InvalidInput):
        await checks.examples("lab", "aa", path, "training_file")
    assert time.monotonic() - started < checked_seconds / 4, "the verdict is remembered"


@pytest.mark.parametrize("line", [b"\n", b" \r\n", b"{}\n"], ids=["newlines", "blanks", "bad rows"])
async def test_memory_does_not_grow_with_the_file(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "long.jsonl"
    path.write_bytes(line * (2**21 if line != b"{}\n" else 2**17) + GOOD)
    verdict = await ProcessCheck(TuningSettings(check_memory_bytes=LEAST_MEMORY_BYTES))(path)
    assert not verdict.is_valid
    assert len(verdict.problems) <= 100


async def test_a_file_that_takes_too_much_memory_is_refused_and_nothing_else_happens(tmp_path: Path) -> None:
    path = tmp_path / "wide.jsonl"
    path.write_bytes(b'{"messages": [' + b"{}," * 1_390_000 + b"{}]}\n")
    verdict = await ProcessCheck(TuningSettings(check_memory_bytes=LEAST_MEMORY_BYTES))(path)
    assert [(p.path, p.code) for p in verdict.problems] == [("file", "file_too_costly")]


async def test_a_file_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "slow.jsonl"
    path.write_bytes((GOOD + b"\n") * 1_000_000)
    verdict = await ProcessCheck(TuningSettings(check_timeout_seconds=1))(path)
    assert [(p.path, p.code) for p in verdict.problems] == [("file", "file_too_costly")]


async def test_a_check_that_cannot_be_made_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await ProcessCheck(TuningSettings())(tmp_path / "gone")
