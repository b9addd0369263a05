"""What is made from the chart's values is what it would be today; each value has to be explained."""

import pytest

from tools.chart.__main__ import CHART, stale
from tools.chart.annotated import Undescribed, read_values
from tools.chart.definitions import OWNED, OWNED_EVERYWHERE, definitions
from tools.chart.images import annotated
from tools.chart.schema import schema_of
from tools.chart.table import BEGIN, END, with_table

VALUES = """
# A comment on the file.

# -- How many,
# in words. (At least one.)
# @schema {"minimum": 1}
count: 2
part:
  # -- On | off.
  enabled: true
  # -- Free words.
  # @schema {"$ref": "#/$defs/stringMap"}
  labels: {a: b}
"""


def test_nothing_that_is_made_is_stale() -> None:
    assert [path.name for path in stale(CHART)] == [], "run `make chart-docs`"


def test_values_are_read_with_what_stands_above_them() -> None:
    count, enabled, labels = read_values(VALUES).leaves()
    assert (count.name, count.default, count.description) == (
        "count",
        2,
        "How many, in words. (At least one.)",
    )
    assert (enabled.name, enabled.default) == ("part.enabled", True)
    assert (labels.name, labels.default) == ("part.labels", {"a": "b"})


def test_a_schema_says_types_and_refuses_what_is_unknown() -> None:
    schema = schema_of(read_values(VALUES))
    assert schema["additionalProperties"] is False
    assert schema["properties"]["count"]["minimum"] == 1
    assert schema["properties"]["part"]["additionalProperties"] is False
    assert schema["properties"]["part"]["properties"]["labels"]["$ref"] == "#/$defs/stringMap"


def test_a_value_of_which_nothing_is_said_is_named() -> None:
    with pytest.raises(Undescribed, match=r"part\.other, last"):
        read_values(VALUES + "  other: 1\nlast: x\n")


def test_settings_that_the_chart_makes_itself_are_not_to_be_given() -> None:
    found = definitions()
    for section, part in found["settings"]["properties"].items():
        fields = set(found[part["$ref"].removeprefix("#/$defs/")]["properties"])
        assert not fields & (OWNED.get(section, frozenset()) | OWNED_EVERYWHERE), section
        assert fields, section


def test_a_table_stands_between_its_marks() -> None:
    pool = {"properties": {"name": {"type": "string", "description": "a | b"}}}
    made = with_table(f"before\n{BEGIN}\nold\n{END}\nafter\n", read_values(VALUES), pool)
    assert "old" not in made
    assert "| `part.enabled` | `true` | On \\| off. |" in made
    assert "| `name` | a \\| b |" in made
    assert (made.startswith("before\n"), made.endswith("\nafter\n")) == (True, True)
    with pytest.raises(ValueError, match="end of values"):
        with_table(BEGIN, read_values(VALUES), pool)


def test_images_stand_in_the_annotation() -> None:
    text = "annotations:\n  artifacthub.io/images: |\n    - name: old\n      image: old:1\nicon: x\n"
    made = annotated(text, ["here/there/it:2", "docker.io/library/postgres@sha256:0"])
    assert "old" not in made
    assert "    - name: it\n      image: here/there/it:2\n    - name: postgres\n" in made
    assert made.endswith("icon: x\n")
    with pytest.raises(ValueError, match="annotation"):
        annotated("name: x\n", [])
