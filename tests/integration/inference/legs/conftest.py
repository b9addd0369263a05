"""Three engines for all tests of this folder: those that kill some come last."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.vendors import VENDORS
from tests.fixtures.engine import OPTIONS
from tests.fixtures.gateway import Serving, serving
from tests.fixtures.legs import Engines, routes

TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")


@pytest.fixture(scope="package")
def engines() -> Iterator[Engines]:
    options = replace(OPTIONS, kv_connector=VENDORS["cpu"].kv_connector or "", args=TOOLS)
    with ExitStack() as stack:
        engines = Engines(options, stack)
        engines.start("p0", "d0", "d1")
        yield engines


@pytest.fixture
async def front(engines: Engines, tmp_path: Path, request: Any) -> AsyncIterator[Serving]:
    names = getattr(request, "param", ("p0", "d0"))
    engines.start(*names)
    # All engines and the gateway work on the same cores here.
    async with serving(tmp_path, routes(engines, *names), connect_timeout_seconds=30.0) as front:
        yield front
