"""Steps of a loop that fail for one of its items."""

from collections.abc import Callable
from typing import Any

import pytest

from common.resources import Workload
from tests.unit.scheduler.loop_scene import Scene

BAD = "bad"


def poison(patched: pytest.MonkeyPatch, where: Any, name: str, is_bad: Callable[..., bool]) -> None:
    original = getattr(where, name)

    def step(*arguments: Any, **options: Any) -> Any:
        if is_bad(*arguments):
            raise OverflowError("int too large to convert to float")
        return original(*arguments, **options)

    patched.setattr(where, name, step)


async def phases(scene: Scene) -> dict[str, str]:
    """The phase of each workload by its name."""
    return {workload.name: workload.status.phase for workload in await scene.store.list(Workload)}
