"""What messages tell people to do can be done: each command, option, field and setting that any text of the
product names is there; and who may not do it is told who may."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from common.resources import KINDS
from common.settings import Settings
from control.cli.commands import COMMANDS, load
from control.cli.main import app
from control.console.documents.field_reference import all_fields
from control.core.advice import for_reader, needs_the_platform
from control.core.permissions import ROLES
from tests.unit.docs.documents import ROOT, commands
from tests.unit.docs.test_what_documents_name import parse

pytestmark = pytest.mark.unit
PACKAGES = ("common", "control", "scheduler", "inference", "finetune", "jobs", "billing", "operators")
PLACE = "…"
"""Stands for what a message fills in."""
NAMES = frozenset(
    ("apiVersion", "bestEffort", "lowerPriority", "trainingData", "oldSelf", "viewBox", "perNode")
)
"""Values, members of other APIs, and parts of drawings."""
FOREIGN = re.compile(r"vLLM|kW|\w*Swagger\w*|deepLinking|docExpansion|defaultModelsExpandDepth|validatorUrl")
OTHER_OPTIONS = frozenset(("--shm-size", "--tensor-parallel-size", "--pipeline-parallel-size"))
"""Of docker and of engines."""
OWN_PARSERS = ("scheduler/sim/", "finetune/tiny_model", "operators/", "inference/", "control/migrate")
"""Programs with options of their own."""


def sources() -> Iterator[tuple[str, str]]:
    """Every text of more than a word in the product, with its place; what commands say of themselves too."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            for line, text in texts(ast.parse(path.read_text()), with_docs=name.startswith("control/cli/")):
                if " " in text:
                    yield f"{name}:{line}", text


def texts(tree: ast.Module, *, with_docs: bool) -> Iterator[tuple[int, str]]:
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    said = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if with_docs and isinstance(node, ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)} - said
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else PLACE for p in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner | docs:
            yield node.lineno, node.value


SOURCES = list(sources())


@cache
def fields() -> frozenset[str]:
    return frozenset(re.sub(r"\[\]", "", one.path) for kind in KINDS for one in all_fields(kind))


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{prefix}{name}.")


@cache
def options() -> frozenset[str]:
    """The options of all commands."""

    def of(command: Any) -> Iterator[str]:
        for parameter in command.params:
            yield from (*parameter.opts, *parameter.secondary_opts)
        for inner in getattr(command, "commands", {}).values():
            yield from of(inner)

    found = {option for name, row in COMMANDS.items() for option in of(load(name, row))}
    whole: Any = typer.main.get_command(app)
    return frozenset(found | {option for parameter in whole.params for option in parameter.opts})


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 2000
    assert sum("`computility " in text for _, text in SOURCES) > 30


def test_every_command_that_is_named_is_understood() -> None:
    for where, text in SOURCES:
        for line in re.findall(r"`(computility [^`]+)`", text):
            if "--help" in line or line.startswith(f"computility {PLACE}"):
                continue
            for words in commands(re.sub(rf"{PLACE}|\b[A-Z]{{2,}}\b", "1", line)):
                assert parses(words), f"{where}: {line}"
        for name in re.findall(r"(?<![/.\w-])computility ([a-z]+(?:-[a-z]+)*)\b", text):
            assert name in COMMANDS, f"{where}: {text}"


def parses(words: list[str]) -> bool:
    """Whether the command line understands it; what is only named (`computility usage`) need not be whole."""
    if len(words) == 2:
        return words[1] in COMMANDS
    try:
        parse(words)
    except typer._click.exceptions.UsageError as error:
        return "Missing" in type(error).__name__ and len(words) == 3 and not words[2].startswith("-")
    return True


def test_every_option_that_is_named_is_one() -> None:
    for where, text in SOURCES:
        if where.startswith(OWN_PARSERS):
            continue
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
            assert option in options() | OTHER_OPTIONS | {"--help"}, f"{where}: {option}: {text[:100]}"


def test_every_field_that_is_named_is_one() -> None:
    last = {name.rpartition(".")[2] for name in fields()} | {"createdMs", "resourceVersion"} | NAMES
    for where, text in SOURCES:
        if where.startswith(("scheduler/sim/", "operators/")):
            continue
        for path in re.findall(r"\bspec(?:\.[a-zA-Z]+)+\b", text):
            assert path in fields(), f"{where}: {path}"
        for name in re.findall(r"(?<!\\)\b[a-z]+[A-Z][A-Za-z]*\b", text):
            assert name in last or FOREIGN.fullmatch(name) or text[0] == "^" or "\\" in text, (
                f"{where}: {name}: {text[:100]}"
            )


def test_every_setting_that_is_named_is_one() -> None:
    known = set(settings(Settings))
    sections = "|".join({name.partition(".")[0] for name in known if "." in name})
    modules = re.compile(r"(?:control|scheduler|operator)\.(?:sim|supervisor)\b.*|\w+\.(?:md|yaml|json)")
    for where, text in SOURCES:
        for name in re.findall(rf"(?<![\w./-])((?:{sections})(?:\.[a-z_]+)+)\b", text):
            is_field = f"spec.{name}" in fields()
            assert name in known or is_field or modules.fullmatch(name), f"{where}: {name}: {text[:100]}"
        for name in re.findall(r"COMPUTILITY_[A-Z]+(?:__[A-Z_]*[A-Z])", text):
            assert name.removeprefix("COMPUTILITY_").lower().replace("__", ".") in known, f"{where}: {name}"


def remedies() -> list[str]:
    """What the scheduler says would help."""
    found = []
    for path in sorted((ROOT / "scheduler").rglob("*.py")):
        if Path(path).parts[-2] in ("explain", "quota", "insight"):
            found += [text for _, text in texts(ast.parse(path.read_text()), with_docs=False) if " " in text]
    return found


ONLY_THE_PLATFORM = re.compile(
    r"raise (?:the queue's|the|its) quota|raise the budget|raise maxDevices|uncordon [^e]|add a? ?node|"
    r"add a Queue|a node joins"
)


def test_who_may_not_do_all_of_it_is_told_who_may() -> None:
    own = [text for text in remedies() if ONLY_THE_PLATFORM.search(text)]
    assert len(own) >= 8
    for text in own:
        assert needs_the_platform(text), text
        for role in ROLES:
            assert ("platform-admin's" in for_reader(role, text)) == (role != "platform-admin")


@pytest.mark.parametrize("text", ["", "running workloads end", "lower replicas or ask for less"])
def test_what_everybody_may_do_is_told_as_it_is(text: str) -> None:
    assert for_reader("member", text) == text
