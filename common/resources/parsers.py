"""How calls of tools, and what a model thinks, are read out of its answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from common.resources.meta import Model as Part
from common.vllm_parsers import ReasoningParser, ToolParser

TOOL_FLAGS = ("--tool-call-parser", "--no-enable-auto-tool-choice")
"""What the arguments of an engine may say about tools; the first names the parser."""
REASONING_FLAGS = ("--reasoning-parser",)


def _off_of_yaml(value: object) -> object:
    """YAML 1.1 reads ``off`` as false."""
    return "off" if value is False else value


Tools = Annotated[
    Literal["auto", "off", ToolParser],
    BeforeValidator(_off_of_yaml),
    Field(
        description="how tools of requests are called: auto = by the parser of vLLM that suits the model, "
        "where its chat template takes tools; off = not at all; or the name of a parser. What engine.args "
        "say counts instead of auto"
    ),
]
Reasoning = Annotated[
    Literal["auto", "off", ReasoningParser],
    BeforeValidator(_off_of_yaml),
    Field(
        description="how what the model thinks is told apart from its answer: auto = by the parser of vLLM "
        "that suits the model, where it thinks; off = not at all; or the name of a parser. What engine.args "
        "say counts instead of auto"
    ),
]


class ParserChoice(Part):
    """Which parser reads answers, and why that one."""

    parser: str = Field("", description="of vLLM; empty = none")
    reason: str = ""


def flag_value(args: Iterable[str], flags: tuple[str, ...]) -> str | None:
    """What the arguments say by these flags: the value of the first of them where it is given, an empty text
    where only others are; None where none is."""
    words = list(args)
    found: str | None = None
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        name = name.replace("_", "-")
        if name not in flags:
            continue
        if name != flags[0]:
            found = found or ""
        elif equals:
            found = value
        else:
            found = words[position + 1] if position + 1 < len(words) else ""
    return found


def check_parsers(tools: str, reasoning: str, args: Iterable[str]) -> None:
    """Raises ``ValueError`` where the arguments of engines say the same as a field, which has one place."""
    words = list(args)
    for name, said, flags in (("tools", tools, TOOL_FLAGS), ("reasoning", reasoning, REASONING_FLAGS)):
        if said != "auto" and flag_value(words, flags) is not None:
            raise ValueError(
                f"{name}: says {said}, and engine.args name {' or '.join(flags)} too; leave one of them out"
            )
