"""One installed chart for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.kube.installed import Installed, installed_chart


@pytest.fixture(scope="package")
def installed(tiny_model: Path) -> Iterator[Installed]:
    """Skips without root, namespaces, overlay file systems, or the binaries of a control plane."""
    with installed_chart(tiny_model) as installed:
        yield installed
