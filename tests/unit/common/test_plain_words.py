"""What is refused is told in the words of who wrote it: no class, type or message of a programming language
reaches them, whatever field of whatever kind is wrong, and however."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
import yaml
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError

from common.errors import InvalidInput
from common.resources import API_VERSION, KINDS, parse_resource
from common.resources.saying import problems_in, problems_of
from common.settings import load_settings
from control.api.routes import endpoints, keys, plan, set_aside, usage, workloads
from finetune.api.requests import CreateJobBody

pytestmark = pytest.mark.unit
FOREIGN = re.compile(
    r"\b(None|True|False|NoneType|isoformat|Value error|Input should|Extra inputs|List should|String should|"
    r"dict|dictionary|instance|tuple|boolean|array|str|int|float|parsing|serializable|Error|datetime|after "
    r"validation|literal|constrained|function-\w+|Unable to|unhashable|attribute)\b"
)
WRONG: tuple[Any, ...] = (
    None,
    True,
    5,
    -1,
    1.5,
    10**30,
    1e300,
    "",
    " x",
    "x" * 5000,
    "tomorrow",
    [],
    [None],
    {},
    {"a b": None},
    {"a": 5},
)
Schema = dict[str, Any]
Path = tuple[str | int, ...]


def paths(schema: Schema, node: Schema, path: Path = ()) -> Iterator[Path]:
    """Every place of a document of the schema; of a list its first entry, of a mapping the entry ``key``."""
    if "$ref" in node:
        node = {**node, **schema["$defs"][node["$ref"].rsplit("/", 1)[1]]}
    yield path
    for part in (*node.get("anyOf", ()), *node.get("allOf", ())):
        yield from paths(schema, part, path)
    for name, part in node.get("properties", {}).items():
        if (*path, name) != ("status",):
            yield from paths(schema, part, (*path, name))
    for name, step in (("items", 0), ("additionalProperties", "key")):
        if isinstance(node.get(name), dict):
            yield from paths(schema, node[name], (*path, step))


def placed(document: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    if path[0] == 0:
        return [placed({}, path[1:], value)]
    inner = document.get(path[0], {}) if isinstance(document, dict) else {}
    return {**(document if isinstance(document, dict) else {}), path[0]: placed(inner, path[1:], value)}


def words_of(text: str) -> str:
    """The words alone: what is quoted is the reader's own."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "…", text)


def said_of(document: object) -> str:
    """What is said of the document; empty where it is right."""
    try:
        parse_resource(document)
    except InvalidInput as error:
        return words_of(error.message)
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_wrong_with_a_resource_is_said_in_plain_words(kind: str) -> None:
    schema = KINDS[kind].model_json_schema(by_alias=True)
    base = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "x"}, "spec": {}}
    refused = 0
    for path in dict.fromkeys(paths(schema, schema)):
        for value in WRONG:
            said = said_of(placed(base, path, value))
            refused += bool(said)
            assert not FOREIGN.search(said), f"{path} {value!r}: {said[:400]}"
    assert refused > 100


def bodies() -> list[Any]:
    """The bodies that routes take."""
    routers = (keys, plan, endpoints, set_aside, usage, workloads)
    fields = (r.body_field for m in routers for r in m.router.routes if isinstance(r, APIRoute))
    return [*(field.field_info.annotation for field in fields if field is not None), CreateJobBody]


@pytest.mark.parametrize("body", bodies(), ids=str)
def test_whatever_is_wrong_with_a_body_is_said_in_plain_words(body: Any) -> None:
    adapter = TypeAdapter(body)
    schema = adapter.json_schema(by_alias=True)
    for path in dict.fromkeys(paths(schema, schema)):
        for value in WRONG:
            try:
                adapter.validate_python(placed({}, path, value))
            except ValidationError as error:
                for problem in problems_of(error):
                    said = f"{problem.path}: {problem.message}"
                    assert not FOREIGN.search(re.sub(r"'[^']*'", "…", said)), f"{value!r}: {said}"


def test_a_field_that_may_be_of_several_types_has_one_problem() -> None:
    with pytest.raises(ValidationError) as refused:
        KINDS["FineTune"].model_validate({"spec": {"hyperparameters": {"nEpochs": "many", "batchSize": -1}}})
    found = {p.path: p.message for p in problems_of(refused.value) if "hyper" in p.path}
    assert found["spec.hyperparameters.nEpochs"] == "must be a whole number or 'auto'"
    assert found["spec.hyperparameters.batchSize"] == "must be at least 0 or 'auto'"


def test_a_wrong_entry_and_a_wrong_name_of_one_are_two_problems() -> None:
    document = {"apiVersion": API_VERSION, "kind": "Queue", "metadata": {"name": "q", "labels": {"a b": 5}}}
    with pytest.raises(InvalidInput) as refused:
        parse_resource(document)
    assert len({problem.message for problem in refused.value.problems}) == 2


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{effectiveFrom: 2026-01-01, items: []}", "spec.effectiveFrom"),
        ("{items: [{meter: 2026-01-01T10:00:00Z}]}", "spec.items[0].meter"),
    ],
)
def test_a_date_that_yaml_made_of_a_text_is_named_with_its_place(text: str, place: str) -> None:
    spec = yaml.safe_load(text)
    assert re.search("date", repr(spec))
    document = {"apiVersion": API_VERSION, "kind": "Price", "metadata": {"name": "x"}, "spec": spec}
    with pytest.raises(InvalidInput, match=re.escape(f"{place}: is a date or time; put it in quotes")):
        parse_resource(document)


@pytest.mark.parametrize("value", [date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), {1, 2}, (b"x",)])
def test_no_value_beyond_json_is_told_by_its_class(value: object) -> None:
    base = {"apiVersion": API_VERSION, "kind": "Queue", "metadata": {"name": "x"}}
    for document in (
        {**base, "spec": {"parent": value}},
        {**base, "kind": value},
        {**base, "apiVersion": value},
    ):
        assert said_of(document)
        assert not FOREIGN.search(said_of(document))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Endpoints", "Endpoint"),
        ("endpoint", "Endpoint"),
        ("fine-tunes", "FineTune"),
        ("Worload", "Workload"),
    ],
)
def test_a_kind_that_is_misspelt_is_told_which_was_meant(typed: str, meant: str) -> None:
    with pytest.raises(InvalidInput, match=f"'{typed}' is unknown; did you mean {meant}"):
        parse_resource({"apiVersion": API_VERSION, "kind": typed, "metadata": {"name": "x"}, "spec": {}})


def test_what_is_left_out_is_said_to_be_missing() -> None:
    with pytest.raises(InvalidInput, match="kind: required, but missing"):
        parse_resource({"items": []})
    with pytest.raises(InvalidInput, match=f"apiVersion: must be {API_VERSION}$"):
        parse_resource({"kind": "Queue"})


@pytest.mark.parametrize(
    ("section", "field"),
    [("gateway", "port"), ("gateway", "cors_origins"), ("ray", "clusters"), ("gateway", "prt")],
)
@pytest.mark.parametrize("value", ["no", None, [5], {"a": 1}])
def test_wrong_settings_are_said_in_plain_words(section: str, field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        load_settings(**{section: {field: value}})
    assert not FOREIGN.search(words_of(refused.value.message)), refused.value.message


def test_as_many_problems_are_told_as_can_be_read() -> None:
    errors: list[Any] = [{"type": "missing", "loc": (n,), "msg": "x", "input": {}} for n in range(500)]
    assert len(problems_in(errors)) == 100
