"""explain KIND.FIELD: every field of every kind has a page, and what stands in it is known to the kind."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from common.errors import InvalidInput, NotFound
from common.resources import KINDS, parse_resource
from control.console.documents import field_reference as reference
from tests.unit.control.cli.test_commands import run


def fields(kind: str, path: str = "", depth: int = 0) -> Iterator[str]:
    yield path
    if depth < 5:
        inner = reference._element(kind, reference._at(kind, path))
        for name in inner.get("properties", {}):
            yield from fields(kind, f"{path}.{name}".lstrip("."), depth + 1)


def codes_of(document: Any) -> set[str]:
    """What is wrong with it."""
    try:
        parse_resource(document)
    except InvalidInput as error:
        return {problem.code for problem in error.problems}
    return set()


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_has_a_page_with_a_document_whose_fields_are_known(kind: str) -> None:
    count = 0
    for path in fields(kind):
        page = reference.describe_field(kind, path)
        assert page.startswith(f"{kind}.{path}".rstrip("."))
        if path.startswith(("status", "metadata")):
            continue
        document: Any = yaml.safe_load(page.partition("go with it):\n")[2])
        assert codes_of(document) & {"extra_forbidden", "missing"} == set(), f"{kind}.{path}"
        count += 1
    assert count > 1


def test_a_page_says_what_a_field_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "ep.spec.devices.vendors") == 0
    shown = capsys.readouterr().out
    assert "list of nvidia | ascend" in shown
    assert "vendors:" in shown
    assert run("explain", "workload.spec.roles[0].command") == 0
    assert "(required)" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "meant"), [("spec.replica", "replicas"), ("spec.devices.vendor", "vendors"), ("spce", "spec")]
)
def test_a_field_that_is_misspelt_is_answered_with_the_nearest(path: str, meant: str) -> None:
    with pytest.raises(NotFound, match=f"did you mean {meant}"):
        reference.describe_field("Endpoint", path)
    assert reference.nearest_field("Endpoint", path) == meant


@pytest.mark.parametrize("path", ["spec.zzzzz", "no.such.place", "", "spec.devices[3].qqq"])
def test_where_nothing_is_near_nothing_is_meant(path: str) -> None:
    assert reference.nearest_field("Endpoint", path) == ""
