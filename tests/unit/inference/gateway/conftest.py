"""A gateway before one engine, and one before several."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.inference.gateway.front_scene import Front, front_scene


@pytest.fixture
async def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Front]:
    async with front_scene(tmp_path, monkeypatch) as scene:
        yield scene


@pytest.fixture
async def wide_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Front]:
    """Four replicas."""
    async with front_scene(tmp_path, monkeypatch, engines=4) as scene:
        yield scene
