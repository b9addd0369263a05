"""What all tests share: fixtures, and the wall around unit tests."""

import os
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import settings

from scheduler.translate.collector import set_world_apart

pytest_plugins = [
    "tests.fixtures.engine",
    "tests.fixtures.ray",
    "tests.fixtures.fleet",
    "tests.fixtures.postgres",
    "tests.fixtures.stores",
]

settings.register_profile("usual", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "usual")
"""Property tests draw new worlds in each run, but the same ones in continuous integration: there a failure
must come from the change that is tested."""

LONGEST_BYTES_IN_A_NAME = 64
UNIT_TESTS = Path(__file__).parent / "unit"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long bytes, such as an archive with the time in it, are named by their place: every worker of a run
    has to collect the same names."""
    return argname if isinstance(val, bytes) and len(val) > LONGEST_BYTES_IN_A_NAME else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(UNIT_TESTS):
            item.add_marker(pytest.mark.unit)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Garbage is collected as control collects it: not over what was there before the first test."""
    set_world_apart()


@pytest.fixture(autouse=True)
def umask_as_before() -> Iterator[None]:
    """A command that is called in this process may make what it writes private: the next test finds what the
    machine has."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def no_network_in_unit_tests(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A unit test that connects anywhere but to a Unix socket, or starts Ray, fails at once."""
    if request.node.get_closest_marker("unit") is None:
        yield
        return
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _refuse_network(self, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _refuse_network(self, address)
        return connect_ex(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    if find_spec("ray"):
        monkeypatch.setattr("ray.init", _refuse_ray)
    yield


def _refuse_network(sock: socket.socket, address: Any) -> None:
    if sock.family != socket.AF_UNIX:
        raise AssertionError(f"a unit test connected to {address}; move it to tests/integration")


def _refuse_ray(*args: Any, **kwargs: Any) -> NoReturn:
    raise AssertionError("a unit test started Ray; move it to tests/integration")
