"""Fixtures of the end-to-end tests."""

from tests.fixtures.platform import running_platform
from tests.fixtures.tiny_model import tiny_model

__all__ = ["running_platform", "tiny_model"]
