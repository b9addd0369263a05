"""What the page about daily use says to be tested has those tests."""

import re

import pytest

from tests.unit.docs.documents import ROOT

pytestmark = pytest.mark.unit
PAGE = ROOT / "docs" / "design" / "daily-use.md"
NAMED = re.compile(r"`(tests/[a-z0-9_/]+/test_[a-z0-9_]+\.py)`: ((?:`test_[a-z0-9_]+`(?:, )?)+)")


def rows() -> list[str]:
    """Those of the table below its heading."""
    return [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][2:]


@pytest.mark.parametrize("row", rows(), ids=range(1, len(rows()) + 1))
def test_each_row_names_tests_that_are_there(row: str) -> None:
    found = NAMED.findall(row)
    assert found
    for file, names in found:
        tests = set(re.findall(r"def (test_\w+)\(", (ROOT / file).read_text()))
        assert set(re.findall(r"`(test_\w+)`", names)) <= tests, file
    assert len(re.findall(r"`test_\w+`", row)) == sum(names.count("`test_") for _, names in found)
