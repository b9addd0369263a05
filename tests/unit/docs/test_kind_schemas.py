"""The schemas that `explain` reads are those of the kinds."""

import json

import pytest

from control.console.documents.kind_schemas import FILE, made

pytestmark = pytest.mark.unit


def test_the_file_of_schemas_is_made_from_the_kinds() -> None:
    assert json.loads(FILE.read_text()) == json.loads(made()), (
        "`make schemas` writes the file anew where a kind has changed"
    )
