"""What the command line reads of kinds and settings without loading them is what they are."""

import json
from types import ModuleType

import pytest

from control.cli.asking import misspelt
from control.console.documents import kind_schemas

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("of", [kind_schemas, misspelt], ids=["kinds", "settings"])
def test_the_file_is_as_it_would_be_made_now(of: ModuleType) -> None:
    assert json.loads(of.FILE.read_text()) == json.loads(of.made()), (
        "`make schemas` writes the file anew where a kind or a setting has changed"
    )
