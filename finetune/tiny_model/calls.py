"""Dialogues in which the tiny model calls tools and answers in JSON, made from files in ``examples/corpus``.

Everything here is a pure function of the files and a seed. Names, places and numbers are drawn, so that the
model learns where in a question they stand rather than which they are.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Chat = list[dict[str, Any]]
FINAL = "final_answer"
"""A tool by which some agents want the answer itself."""
_MOST_NUMBER = 99
_NAMES = re.compile(r"(.+)\((.+)\)")


@dataclass(frozen=True)
class ToolText:
    """What is said of one tool: its ``names``, what it is called with, and a story told by ``{…}``."""

    names: tuple[str, ...]
    parameters: tuple[str, ...]
    questions: tuple[str, ...]
    results: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Calls:
    """The files, read: ``objects`` are (requests, JSON) pairs, ``values`` what may stand in braces."""

    tools: tuple[ToolText, ...]
    objects: tuple[tuple[tuple[str, ...], str], ...]
    values: Mapping[str, tuple[str, ...]]


def read_calls(folder: Path) -> Calls:
    """Read ``tools.txt``, ``objects.txt`` and ``values.txt``. Raises ``ValueError`` where one is odd."""
    values = dict(_entry(line) for line in _lines(folder / "values.txt"))
    tools = [_tool(*lines) for lines in _groups(folder / "tools.txt", "TQRA")]
    objects = [(_variants(asked), answer) for asked, answer in _groups(folder / "objects.txt", "QJ")]
    return Calls(tuple(tools), tuple(objects), values)


def call_dialogues(
    calls: Calls, plain: list[tuple[str, str]], rng: random.Random, count: int
) -> Iterator[tuple[Chat, list[dict[str, Any]]]]:
    """So many dialogues with the tools that are there: of three, one ends with a call, one with the answer to
    it, one needs none and is answered like one of the ``plain`` (question, answer) pairs."""
    for number in range(count):
        tools = rng.sample(calls.tools, rng.randint(1, 2))
        names = [rng.choice(tool.names) for tool in tools]
        offered = [offer(name, tool.parameters) for name, tool in zip(names, tools, strict=True)]
        if number % 3 == 2:
            question, answer = rng.choice(plain)
            yield [_says("user", question), _says("assistant", answer)], offered
            continue
        final = number % 4 == 3
        chat = _story(calls, rng, tools[0], names[0], answered=number % 3 == 1, final=final)
        offered += [offer(FINAL, ("answer",))] if final else []
        rng.shuffle(offered)
        yield chat, offered


def object_dialogues(calls: Calls, rng: random.Random, count: int) -> Iterator[Chat]:
    """So many requests that are answered in JSON."""
    for number in range(count):
        requests, answer = calls.objects[number % len(calls.objects)]
        values = _draw(calls, rng)
        request = _filled(rng.choice(requests), values)
        yield [_says("user", request), _says("assistant", _filled(answer, values))]


def offer(name: str, parameters: tuple[str, ...]) -> dict[str, Any]:
    """A tool as a request names it."""
    schema = {"type": "object", "properties": {name: {} for name in parameters}}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def _story(
    calls: Calls, rng: random.Random, tool: ToolText, name: str, *, answered: bool, final: bool
) -> Chat:
    values = _draw(calls, rng)
    arguments = {parameter: _value(values[parameter]) for parameter in tool.parameters}
    chat = [_says("user", _filled(rng.choice(tool.questions), values)), _calls(name, arguments)]
    if not answered:
        return chat
    result = _filled(rng.choice(tool.results), values)
    answer = _filled(tool.answer, {**values, "result": result})
    last = _calls(FINAL, {"answer": answer}) if final else _says("assistant", answer)
    return [*chat, _says("tool", result), last]


def _draw(calls: Calls, rng: random.Random) -> dict[str, str]:
    values = {name: rng.choice(some) for name, some in calls.values.items()}
    numbers = {name: str(rng.randint(1, _MOST_NUMBER)) for name in ("a", "b", "number")}
    return {**values, **numbers, "query": values["thing"]}


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def _value(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _says(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _calls(name: str, arguments: Mapping[str, str | int]) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def text_of(chat: Chat) -> Iterator[str]:
    """What is said and called in a dialogue, for a tokenizer to learn from."""
    for message in chat:
        if message["content"]:
            yield message["content"]
        for call in message.get("tool_calls", ()):
            yield json.dumps(call["function"])


def _tool(names: str, questions: str, results: str, answer: str) -> ToolText:
    found = _NAMES.fullmatch(names)
    if found is None:
        raise ValueError(f"tools.txt: expected `T: names (parameters)`, not {names}")
    parameters = tuple(word.strip() for word in found[2].split(","))
    return ToolText(_variants(found[1]), parameters, _variants(questions), _variants(results), answer)


def _groups(path: Path, heads: str) -> Iterator[tuple[str, ...]]:
    """Lines that follow each other with these letters before them."""
    lines = _lines(path)
    for start in range(0, len(lines), len(heads)):
        group = lines[start : start + len(heads)]
        if [line[:3] for line in group] != [f"{head}: " for head in heads]:
            raise ValueError(f"{path.name}: expected {', '.join(heads)} in turns, at: {group[0]}")
        yield tuple(line[3:] for line in group)


def _entry(line: str) -> tuple[str, tuple[str, ...]]:
    name, _, values = line.partition(": ")
    return name, _variants(values)


def _variants(text: str) -> tuple[str, ...]:
    return tuple(variant.strip() for variant in text.split(" | "))


def _lines(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
