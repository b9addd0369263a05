"""Columns of tables show fields that there are: what a column reads is in the schema of its kind."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from common.resources import KINDS
from control.cli.doctor_checks.checks import judge_devices
from control.console.documents.field_reference import all_fields
from control.console.formats import Output
from control.console.output import print_document, with_moments
from control.console.tables.tables import COLUMNS

pytestmark = pytest.mark.unit
CLUSTER_OF_NUMBERS = ("integer", "number")


def every_field(schema: dict[str, Any], node: dict[str, Any], depth: int = 0) -> Any:
    """A document in which every field has a value, made so that it says which were read."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    for part in (*node.get("allOf", ()), *node.get("anyOf", ())):
        if part.get("type") != "null":
            return every_field(schema, part, depth)
    if depth < 7 and "properties" in node:
        return {name: every_field(schema, part, depth + 1) for name, part in node["properties"].items()}
    if node.get("type") == "array":
        return [every_field(schema, node["items"], depth + 1)]
    if node.get("type") in CLUSTER_OF_NUMBERS:
        return 7
    if "enum" in node or "const" in node:
        return node.get("const", node.get("enum", [""])[0])
    return {"boolean": True, "object": {}}.get(str(node.get("type")), "text")


class Seen(dict[str, Any]):
    """A mapping that notes the path of what is read of it."""

    def __init__(self, content: dict[str, Any], path: str, read: set[str]) -> None:
        super().__init__({name: watched(value, f"{path}.{name}", read) for name, value in content.items()})
        self._path, self._read = path, read

    def __getitem__(self, name: str) -> Any:
        self._read.add(f"{self._path}.{name}".lstrip("."))
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._read.add(f"{self._path}.{name}".lstrip("."))
        return super().get(name, default)


def watched(value: Any, path: str, read: set[str]) -> Any:
    if isinstance(value, dict):
        return Seen(value, path, read)
    return [watched(one, path, read) for one in value] if isinstance(value, list) else value


def columns() -> Iterator[tuple[str, str]]:
    for kind, its in COLUMNS.items():
        for column in its:
            yield kind, column.title


@pytest.mark.parametrize(("kind", "title"), list(columns()))
def test_a_column_reads_fields_that_there_are_and_shows_something(kind: str, title: str) -> None:
    schema = KINDS[kind].model_json_schema(by_alias=True)
    read: set[str] = set()
    document = watched(every_field(schema, schema), "", read)
    shown = next(column for column in COLUMNS[kind] if column.title == title).value(document)
    known = {re.sub(r"\[\]", "", field.path) for field in all_fields(kind)} | {"spec", "status"}
    open_ended = {"spec.roles", "spec.prefill", "spec.decode"}
    assert {path for path in read if not path.startswith(tuple(open_ended))} <= known
    assert read
    assert shown is not None


def test_a_queue_shows_what_it_has_and_may_borrow() -> None:
    [quotas] = [column for column in COLUMNS["Queue"] if column.title == "QUOTAS"]
    spec = {"quotas": [{"deviceClass": "nvidia/H100", "nominalDevices": 16, "borrowingDevices": 8}, {}]}
    assert quotas.value({"spec": spec}) == "nvidia/H100 16 (+8), * 0"


def test_devices_are_counted_as_the_pool_counts_them() -> None:
    """A slot of a CPU is a device wherever devices are counted."""
    [devices] = [column for column in COLUMNS["Node"] if column.title == "DEVICES"]
    cpu = {"vendor": "cpu", "model": "EPYC", "slots": 2}
    gpu = {"vendor": "nvidia", "model": "H100"}
    assert devices.value({"status": {"devices": [cpu, gpu, gpu]}}) == "2× cpu/EPYC, 2× nvidia/H100"
    assert judge_devices({"devices": [{**cpu, "healthy": True}]}).message.startswith("2× cpu/EPYC")


def test_times_in_yaml_say_which_moment_they_are() -> None:
    document = {
        "metadata": {"createdMs": 1_796_027_888_313, "name": "x"},
        "items": [{"lastMs": 1_700_000_000_000}],
    }
    text = with_moments(yaml.safe_dump(document))
    assert "createdMs: 1796027888313  # 2026-11-30T08:38:08.313Z" in text
    assert "- lastMs: 1700000000000  # 2023-11-14T22:13:20.000Z" in text
    assert yaml.safe_load(text) == document
    assert with_moments("ttlMs: 5\n") == "ttlMs: 5\n"


@pytest.mark.parametrize(
    "text", ["x\naMs: 1796027888313\ny", "word " * 19 + "aMs: 1796027888313 " + "word " * 19]
)
def test_no_text_is_changed_by_saying_which_moment_a_number_is(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {"metadata": {"createdMs": 1_796_027_888_313, "annotations": {"note": text}}}
    print_document(document, Output.YAML)
    assert yaml.safe_load(capsys.readouterr().out) == document


@pytest.mark.parametrize(
    ("ends", "said"), [({}, "never"), ({"expiresMs": 1}, "ago"), ({"expiresMs": 4_000_000_000_000}, "in ")]
)
def test_a_key_says_when_it_ends(ends: dict[str, int], said: str) -> None:
    key = {"metadata": {"name": "ci"}, "spec": {"role": "agent", **ends}, "status": {}}
    [shown] = [str(column.value(key)) for column in COLUMNS["ApiKey"] if column.title == "EXPIRES"]
    assert said in shown
