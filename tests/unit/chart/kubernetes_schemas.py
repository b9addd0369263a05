"""Schemas of Kubernetes' own kinds, read once: the library that brings them reads 10 MB for each object."""

from functools import cache
from typing import Any

from jsonschema.validators import Draft202012Validator  # type: ignore[import-untyped]
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

VERSION = "1.34"
_FOLDER = "kubernetes-json-schema/v1.34.0-local-strict"


@cache
def schema_of(kind: str, api_version: str) -> Draft202012Validator | None:
    """What an object has to be, where nothing unknown may stand in it; None for kinds of others."""
    group, _, version = api_version.rpartition("/")
    if ("." in group and not group.endswith(".k8s.io")) or kind == "CustomResourceDefinition":
        return None
    name = "-".join(part for part in (kind.lower(), group.partition(".")[0], version) if part)
    contents = schema_contents(f"{_FOLDER}/{name}.json", VERSION)
    return Draft202012Validator(contents, registry=Resource.from_contents(contents) @ _registry())


@cache
def _registry() -> Any:
    definitions = schema_contents(f"{_FOLDER}/_definitions.json", VERSION)
    return (Resource.from_contents(definitions) @ Registry()).crawl()
