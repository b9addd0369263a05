"""The definitions are what Kubernetes takes, and say what ``common.resources`` says."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from operators.crds import manifests
from operators.crds.structural import re2, structural
from operators.crds.table import CRDS, Crd

TAKEN = {
    *("type", "format", "description", "default", "enum", "pattern", "required", "properties", "items"),
    *("additionalProperties", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
}
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "any": (str, int, float, dict, list),
}
ALL = pytest.mark.parametrize("crd", CRDS, ids=lambda crd: crd.kind)


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


def test_the_files_in_the_chart_are_not_stale() -> None:
    there = {path: path.read_text(encoding="utf-8") for path in manifests.FOLDER.glob("*.yaml")}
    assert there == manifests.files(), "run make crds"


@ALL
def test_schemas_are_structural(crd: Crd) -> None:
    for path, node in nodes(manifests.schema_of(crd)):
        assert node.keys() <= TAKEN, path
        assert "type" in node or node.get("x-kubernetes-preserve-unknown-fields"), path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert isinstance(node.get("exclusiveMinimum", True), bool), path
        assert "x-kubernetes-validations" not in node or path == "", "rules stand at the root"


@ALL
def test_defaults_are_what_their_schema_takes(crd: Crd) -> None:
    for path, node in nodes(manifests.schema_of(crd)):
        if "default" in node:
            value = node["default"]
            assert value not in ("", None), path
            assert isinstance(value, TYPES[node.get("type", "any")]), path
            assert value in node.get("enum", (value,)), path
            if isinstance(value, int | float):
                assert node.get("minimum", value) <= value <= node.get("maximum", value), path


@ALL
def test_required_fields_are_there_and_have_no_default(crd: Crd) -> None:
    for path, node in nodes(manifests.schema_of(crd)):
        for name in node.get("required", ()):
            assert "default" not in node["properties"][name], f"{path}.{name}"


@ALL
def test_patterns_are_plain_enough_for_re2(crd: Crd) -> None:
    for path, node in nodes(manifests.schema_of(crd)):
        pattern = node.get("pattern", "")
        assert pattern.isascii(), path
        assert not re.search(r"\\u|\(\?[=!<]|\\\d", pattern), path


def test_names_are_their_own() -> None:
    words = [word for crd in CRDS for word in (crd.plural, crd.kind.lower(), *crd.short)]
    assert len(set(words)) == len(words)


def test_where_several_types_are_possible_anything_goes() -> None:
    schema = {"anyOf": [{"type": "integer"}, {"const": "auto"}], "default": "auto", "description": "a ``b``"}
    assert structural(schema) == {
        "description": "a b",
        "default": "auto",
        "x-kubernetes-preserve-unknown-fields": True,
    }


def test_what_may_be_unset_is_just_left_out() -> None:
    schema = {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}], "default": None}
    assert structural(schema) == {"type": "string", "maxLength": 3}


def test_references_are_put_in_place_and_circles_refused() -> None:
    defs = {"A": {"type": "object", "properties": {"n": {"type": "integer", "exclusiveMinimum": 0}}}}
    flat = structural({"$defs": defs, "$ref": "#/$defs/A", "description": "mine"})
    assert flat["description"] == "mine"
    assert flat["properties"]["n"] == {
        "type": "integer",
        "minimum": 0,
        "exclusiveMinimum": True,
        "format": "int64",
    }
    circle = {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}}
    with pytest.raises(ValueError, match="refers to itself"):
        structural({"$defs": circle, "$ref": "#/$defs/A"})


def test_mappings_keep_what_their_values_are() -> None:
    schema = {"type": "object", "patternProperties": {"^a$": {"type": "string"}}, "maxProperties": 2}
    assert structural(schema) == {
        "type": "object",
        "maxProperties": 2,
        "additionalProperties": {"type": "string"},
    }


def test_patterns_of_python_are_written_as_re2_has_them() -> None:
    assert re2("^[\\u00ad\U000e0000]$") == r"^[\x{00ad}\x{e0000}]$"
