"""Fixtures of the end-to-end tests, and their order."""

from pathlib import Path

import pytest

from tests.fixtures.platform import running_platform
from tests.fixtures.tiny_model import tiny_model

__all__ = ["running_platform", "tiny_model"]

HERE = Path(__file__).parent


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest tests come last, and of them the faults: an engine that was killed counts from zero again,
    and the bill does not.
    """
    items.sort(key=lambda item: (item.path.is_relative_to(HERE), item.path.stem == "test_faults"))
