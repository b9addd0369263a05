"""Training files are checked one at a time per project, few in all, and each content once."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from common.errors import InvalidInput, TooManyRequests, Unavailable
from common.settings import TuningSettings
from finetune.core.validate import Validation, check_rows
from finetune.files.dataset import DatasetChecks

PATH = Path("nowhere")


@dataclass
class Checker:
    """Checks that take until the test says so."""

    verdict: Validation = field(default_factory=lambda: Validation(12, (), 0))
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    most: int = 0
    count: int = 0
    error: Exception | None = None

    async def __call__(self, path: Path) -> Validation:
        self.count += 1
        self.running += 1
        self.most = max(self.most, self.running)
        await self.go_on.wait()
        self.running -= 1
        if self.error is not None:
            raise self.error
        return self.verdict


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_content_is_checked_once_however_often_it_is_asked_for() -> None:
    checker = Checker()
    checks = DatasetChecks(TuningSettings(), checker)
    asked = [asyncio.create_task(checks.examples("lab", "aa", PATH, "training_file")) for _ in range(12)]
    await _settle()
    checker.go_on.set()
    assert await asyncio.gather(*asked) == [12] * 12
    assert await checks.examples("lab", "aa", PATH, "validation_file") == 12
    assert checker.count == 1


async def test_a_bad_verdict_is_remembered_too_and_told_by_field() -> None:
    checker = Checker(verdict=check_rows([b"{broken\n"]))
    checker.go_on.set()
    checks = DatasetChecks(TuningSettings(), checker)
    for _ in range(2):
        for param in ("training_file", "validation_file"):
            with pytest.raises(InvalidInput, match="line 1") as refused:
                await checks.examples("lab", "aa", PATH, param)
            assert (refused.value.param, refused.value.code) == (param, f"invalid_{param}")
    assert checker.count == 1


async def test_a_project_has_one_check_at_a_time_and_all_have_few() -> None:
    checker = Checker()
    checks = DatasetChecks(TuningSettings(max_checks=2), checker)
    asked = [
        asyncio.create_task(checks.examples(project, str(n), PATH, "training_file"))
        for project in ("lab", "shop", "zoo")
        for n in range(3)
    ]
    await _settle()
    assert (checker.running, checker.count) == (2, 2)
    checker.go_on.set()
    assert await asyncio.gather(*asked) == [12] * 9
    assert checker.most <= 2


async def test_one_project_cannot_keep_the_others_waiting_without_end() -> None:
    checker = Checker()
    checks = DatasetChecks(TuningSettings(max_checks=2, max_waiting_checks_per_project=3), checker)
    mine = [asyncio.create_task(checks.examples("lab", str(n), PATH, "training_file")) for n in range(9)]
    await _settle()
    refused = [task for task in mine if task.done()]
    assert len(refused) == 5
    assert all(isinstance(task.exception(), TooManyRequests) for task in refused)
    other = asyncio.create_task(checks.examples("shop", "1", PATH, "training_file"))
    await _settle()
    assert checker.running == 2, "the other project's check runs beside the first"
    checker.go_on.set()
    assert await other == 12
    await asyncio.gather(*mine, return_exceptions=True)


async def test_too_many_checks_in_all_are_refused_for_now() -> None:
    checker = Checker()
    checks = DatasetChecks(TuningSettings(max_checks=1, max_waiting_checks=2), checker)
    asked = [asyncio.create_task(checks.examples(f"p{n}", str(n), PATH, "training_file")) for n in range(5)]
    await _settle()
    refused = [task for task in asked if task.done()]
    assert [type(task.exception()) for task in refused] == [Unavailable, Unavailable]
    checker.go_on.set()
    await asyncio.gather(*asked, return_exceptions=True)
    assert await checks.examples("p9", "9", PATH, "training_file") == 12


async def test_a_client_that_leaves_does_not_stop_the_check_of_another() -> None:
    checker = Checker()
    checks = DatasetChecks(TuningSettings(), checker)
    gone, stays = (asyncio.create_task(checks.examples("lab", "aa", PATH, "training_file")) for _ in range(2))
    await _settle()
    gone.cancel()
    await _settle()
    checker.go_on.set()
    assert await stays == 12


async def test_a_check_that_broke_is_tried_again() -> None:
    checker = Checker(error=Unavailable("no"))
    checker.go_on.set()
    checks = DatasetChecks(TuningSettings(), checker)
    with pytest.raises(Unavailable):
        await checks.examples("lab", "aa", PATH, "training_file")
    checker.error = None
    assert await checks.examples("lab", "aa", PATH, "training_file") == 12


async def test_what_is_remembered_is_bounded() -> None:
    checker = Checker()
    checker.go_on.set()
    checks = DatasetChecks(TuningSettings(remembered_checks=2), checker)
    for sha256 in ("a", "b", "c", "c", "a"):
        await checks.examples("lab", sha256, PATH, "training_file")
    assert checker.count == 4
