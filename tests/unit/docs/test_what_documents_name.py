"""Every command, file, setting and manifest that README and docs name is there, and is right."""

import re
from importlib.util import find_spec
from typing import Any

import pytest
import typer
import yaml

from common.resources import KINDS
from control.cli.commands import COMMANDS
from control.cli.main import app
from tests.unit.docs.documents import ROOT, blocks, commands, prose, typed
from tools.docs.settings import settings_page

pytestmark = pytest.mark.unit
OTHERS = frozenset(
    (
        "curl",
        "install",
        "pip",
        "helm",
        "kubectl",
        "jq",
        "source",
        "psql",
        "docker",
        "tar",
        "sha256sum",
        "grep",
        "promtool",
    )
)
"""Programs of others that documents call."""
NO_SETTINGS = frozenset(
    (
        "COMPUTILITY_SETUP_ENGINE",
        "COMPUTILITY_SETUP_EXTRAS",
        "COMPUTILITY_GATEWAY_PORT",
        "COMPUTILITY_TEST_KILLS",
        "COMPUTILITY_JSON_SPACES",
    )
)
"""Variables of the set-up, of engines and of tests, and one that is shown because it is misspelt."""
TYPED_ELSEWHERE = "docs/quickstart.md:"
"""A test of its own types it in a shell, line by line, and looks at what is answered."""
LINES = sorted({(where, line) for where, line in typed() if not where.startswith(TYPED_ELSEWHERE)})
WRITTEN = frozenset(("bench/out/",))
"""What commands write."""
ENDINGS = "py|md|sh|yaml|yml|json|jsonl|txt|svg|png|toml"
FOLDERS = (
    "batches|common|control|scheduler|inference|finetune|jobs|billing|operators|deploy|bench|tests|tools|examples|"
    "docs"
)


def parse(words: list[str]) -> None:
    """Read the words of a ``computility`` command as the command line would. Raises ``UsageError``."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("computility", words[1:], resilient_parsing=False)
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        if command is None or ("--help" in rest or "-h" in rest):
            return
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize(("where", "line"), LINES, ids=[f"{where} {line[:40]}" for where, line in LINES])
def test_what_is_typed_is_understood(where: str, line: str) -> None:
    for words in commands(line):
        program = words[0].rpartition("/")[2]
        if program == "computility":
            parse([word for word in words if word != "…"])
        elif program == "make":
            targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
            assert {word for word in words[1:] if "=" not in word} <= targets
        elif program == "python" and words[1] == "-m":
            assert find_spec(words[2]), words[2]
        else:
            assert program in OTHERS or (ROOT / words[0]).is_file(), f"{where}: {line}"


@pytest.mark.parametrize("line", ["computility got ep", "computility get", "computility apply --flename x"])
def test_what_is_not_understood_is_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"No such|Missing"):
        parse(line.split())


@pytest.mark.parametrize("name", [name for name, _ in prose()])
def test_commands_that_are_named_are_there(name: str) -> None:
    for shown in re.findall(r"`computility ([a-z]+(?:-[a-z]+)*)\b[^`]*`", dict(prose())[name]):
        assert shown in COMMANDS, shown


@pytest.mark.parametrize("name", [name for name, _ in prose()])
def test_files_that_are_named_are_there(name: str) -> None:
    text = dict(prose())[name]
    named = set(re.findall(rf"`((?:{FOLDERS})/[\w./-]*(?:/|\.(?:{ENDINGS})))`", text))
    missing = [path for path in named - WRITTEN if not (ROOT / path).exists()]
    assert missing == []


def test_settings_that_are_named_are_settings() -> None:
    known = set(re.findall(r"COMPUTILITY_[A-Z_]+", settings_page())) | NO_SETTINGS
    for where, text in [
        *prose(),
        *((block.where, block.text) for block in blocks("console", "yaml", "python", "sh")),
    ]:
        named = set(re.findall(r"COMPUTILITY_[A-Z_]*[A-Z]\b", text))
        assert named <= known, f"{where}: {named - known}"


def test_files_that_are_typed_are_there() -> None:
    """In the README, which is read before anything is written; other pages show what their files hold."""
    lines = [line for where, line in typed() if where.startswith("README.md:") and "computility" in line]
    named = [path for line in lines for path in re.findall(r"-f (\S+)", line) if not path.startswith("-")]
    assert len(named) >= 4
    assert [path for path in named if not (ROOT / path).exists()] == []


def manifests() -> list[tuple[str, dict[str, object]]]:
    """Every document of ours in a block of YAML."""
    return [
        (block.where, document)
        for block in blocks("yaml")
        for document in yaml.safe_load_all(block.text)
        if isinstance(document, dict) and str(document.get("apiVersion", "")).startswith("computility.io/")
    ]


@pytest.mark.parametrize(("where", "document"), manifests(), ids=[where for where, _ in manifests()])
def test_manifests_are_right(where: str, document: dict[str, object]) -> None:
    KINDS[str(document["kind"])].model_validate(document)
