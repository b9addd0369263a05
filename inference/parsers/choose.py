"""The parsers that suit a model, and those that an Endpoint's engines are started with."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from common.resources import Endpoint, Model
from common.resources.parsers import REASONING_FLAGS, TOOL_FLAGS, ParserChoice, flag_value
from inference.parsers.families import REASONING_FAMILIES, TOOL_FAMILIES, Family

_UNKNOWN = "nothing is known of its Model yet"


@dataclass(frozen=True)
class ModelSigns:
    """By what a model is told: ``name`` is the hub's, or that of its folder; ``template`` its chat template,
    empty = it has none, None = it cannot be seen from here."""

    name: str
    model_type: str = ""
    template: str | None = None


def tools_for(signs: ModelSigns) -> ParserChoice:
    """How it calls tools: not, where its chat template says nothing of them."""
    if signs.template == "":
        return ParserChoice(reason="the model has no chat template")
    if signs.template is not None and "tools" not in signs.template:
        return ParserChoice(reason="the chat template of the model takes no tools")
    return _first(TOOL_FAMILIES, signs, "no parser is known for the model; spec.tools may name one")


def reasoning_for(signs: ModelSigns) -> ParserChoice:
    """How it thinks before it answers."""
    if signs.template == "":
        return ParserChoice(reason="the model has no chat template")
    return _first(
        REASONING_FAMILIES, signs, "nothing says that the model thinks; spec.reasoning may name a parser"
    )


def tools_of(endpoint: Endpoint, model: Model | None, args: Iterable[str]) -> ParserChoice:
    """How engines of the endpoint that run the model, with these arguments, have tools called."""
    return _chosen(
        "tools", endpoint.spec.tools, model, model.status.tools if model else None, args, TOOL_FLAGS
    )


def reasoning_of(endpoint: Endpoint, model: Model | None, args: Iterable[str]) -> ParserChoice:
    """How they tell what is thought from what is answered."""
    suits = model.status.reasoning if model else None
    return _chosen("reasoning", endpoint.spec.reasoning, model, suits, args, REASONING_FLAGS)


def _chosen(
    field: str,
    said: str,
    model: Model | None,
    suits: ParserChoice | None,
    args: Iterable[str],
    flags: tuple[str, ...],
) -> ParserChoice:
    if model is not None and model.spec.tasks == ["embeddings"]:
        return ParserChoice(reason="the model makes embeddings")
    given = flag_value(args, flags)
    if given is not None:
        return ParserChoice(parser=given, reason="engine.args say so")
    if said != "auto":
        return ParserChoice(parser="" if said == "off" else said, reason=f"spec.{field} says so")
    return suits or ParserChoice(reason=_UNKNOWN)


def _first(families: Iterable[Family[str]], signs: ModelSigns, otherwise: str) -> ParserChoice:
    for family in families:
        reason = _why(family, signs)
        if reason:
            return ParserChoice(parser=family.parser, reason=reason)
    return ParserChoice(reason=otherwise)


def _why(family: Family[str], signs: ModelSigns) -> str:
    """Why the model is of the family; empty = it is not."""
    marked = signs.template is not None and all(mark in signs.template for mark in family.marks)
    if signs.template is not None and not marked:
        return ""
    if marked and family.marks and family.by_marks:
        return f"the chat template of the model has {' and '.join(family.marks)}"
    if signs.model_type and signs.model_type in family.types:
        return f"the model is of type {signs.model_type}"
    name = signs.name.lower()
    return f"the name of the model is {signs.name}" if any(re.search(p, name) for p in family.names) else ""
