"""Documents at the edges of their schema are stored as they are, and every part of a schema has edges."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given

from common.clock import VirtualClock
from common.resources import KINDS, Resource
from common.store.memory import MemoryStore
from common.store.sql import SqlStore
from tests.fixtures.extremes import documents
from tests.unit.gate.driving import EXTREME, accepted


async def through_a_store(store: MemoryStore | SqlStore, resource: Resource) -> None:
    applied = (await store.apply(resource)).resource
    found = await store.get(type(resource), resource.name, resource.project)
    assert found == applied
    assert applied in await store.list(type(resource))
    assert (await store.apply(resource)).outcome == "unchanged"
    await store.delete(type(resource), resource.name, resource.project)
    assert (await store.changes(await store.revision() - 1))[0].resource.name == resource.name


@pytest.mark.parametrize("kind", KINDS)
def test_what_passes_the_gate_is_stored_and_read_again(
    kind: str, runner: asyncio.Runner, sqlite: SqlStore
) -> None:
    passed: list[str] = []

    @EXTREME
    @given(documents(kind))
    def check(document: dict[str, Any]) -> None:
        resource = accepted(document)
        if resource is not None:
            passed.append(resource.name)
            runner.run(through_a_store(MemoryStore(VirtualClock()), resource))
            runner.run(through_a_store(sqlite, resource))

    check()
    # About half of the 30 that are drawn are; 10 were too few once in fifty runs.
    assert len(passed) >= 5, "the documents are hardly ever right"


def without_limits(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Places of a schema that could hold anything of any size."""
    bounds = {"string": "maxLength", "integer": "maximum", "number": "maximum", "array": "maxItems"}
    type_ = schema.get("type")
    if type_ in bounds and bounds[type_] not in schema and "enum" not in schema and "const" not in schema:
        yield f"{path}: {bounds[type_]}"
    least = {"minimum", "exclusiveMinimum", "enum", "const"}
    if type_ in ("integer", "number") and not least & schema.keys():
        yield f"{path}: minimum"
    if type_ == "object" and "properties" not in schema and "maxProperties" not in schema:
        yield f"{path}: maxProperties"
    for name, part in schema.get("properties", {}).items():
        yield from without_limits(part, f"{path}.{name}")
    for part in (*schema.get("anyOf", ()), *schema.get("patternProperties", {}).values()):
        yield from without_limits(part, path)
    if "items" in schema:
        yield from without_limits(schema["items"], f"{path}[]")


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_number_list_and_mapping_that_people_write_has_a_limit(kind: str) -> None:
    schema = KINDS[kind].model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    written = {"Metadata", schema["properties"]["spec"]["$ref"].rsplit("/", 1)[1]}
    while (
        more := {
            reference
            for name in written
            for reference in definitions
            if f'"#/$defs/{reference}"' in json.dumps(definitions[name])
        }
        - written
    ):
        written |= more
    found = [place for name in sorted(written) for place in without_limits(definitions[name], name)]
    assert found == []
