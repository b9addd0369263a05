"""How what parts tell in drawn worlds is compared with what was approved."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from common.errors import ComputilityError
from tests.fixtures import approving as approved

World = Callable[[random.Random, pytest.MonkeyPatch, Path], Awaitable[str]]
Worlds = Mapping[str, tuple[World, int, int]]
"""By name: what is told of a world, how many are drawn, and how many are kept to be read."""


async def check_worlds(file: Path, name: str, worlds: Worlds, folder: Path) -> None:
    """Draw the worlds of this name, each with a home of its own in ``folder``, and compare what is told of
    them with the text beside ``file``, a test."""
    ask, draws, read = worlds[name]
    answers = []
    for seed in range(draws):
        home = folder / str(seed)
        home.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            answers.append((await ask(random.Random(seed), patch, home)).replace(str(home), "HOME"))
    kept = file.with_name(file.stem.removeprefix("test_")).with_suffix(".txt")
    approved.check(kept, {name: approved.kept(answers, read)})


def said(error: BaseException) -> str:
    """An error with all that it says."""
    more = {name: value for name, value in sorted(vars(error).items()) if name not in ("args", "message")}
    return f"{type(error).__name__}: {error} {more if isinstance(error, ComputilityError) else ''}"
