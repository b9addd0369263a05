"""Fixtures of the end-to-end tests, and their order."""

from pathlib import Path

import pytest

from tests.fixtures.platform import running_platform
from tests.fixtures.tiny_model import tiny_model

__all__ = ["running_platform", "tiny_model"]

HERE = Path(__file__).parent
LATE = {"test_faults": 1, "test_rolls": 2}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest tests come last. Of them the faults, as an engine that was killed counts from zero again
    and the bill does not; then those that replace the engine that the others know by name.
    """
    items.sort(key=lambda item: (item.path.is_relative_to(HERE), LATE.get(item.path.stem, 0)))
