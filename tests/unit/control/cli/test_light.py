"""Commands that only ask do not load the product: that would take longer than all that they do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from common.environment import variables
from common.kind_names import API_VERSION, KIND_NAMES
from common.resources import API_VERSION as RESOURCE_VERSION
from common.resources import KINDS
from control.cli.asking.session import Session

ROOT = Path(__file__).parents[4]
HEAVY = {
    "aiohttp",
    "billing",
    "common.resources",
    "common.settings",
    "fastapi",
    "finetune",
    "inference",
    "numpy",
    "openai",
    "pydantic",
    "pydantic_settings",
    "ray",
    "scheduler",
    "sqlalchemy",
    "structlog",
    "torch",
    "typer._adapters",
    "uvicorn",
    "yaml",
}
NO_CLIENT = HEAVY | {"httpx", "control.console.output", "control.console.tables.tables"}
CALL = """
import json, sys
import httpx
from common.client import Client
from control.cli.main import main
from control.cli.asking.session import Session

made = {"kind": "Model", "metadata": {"name": "tiny", "project": "search"}, "spec": {"source": "org/tiny"}}
results = [{"outcome": "unchanged", "resource": made}]

def answer(request):
    body = {"items": [made], "revision": 1, "results": results, "data": []}
    if request.url.path.endswith("/models/tiny"):
        body = made
    elif request.url.path.endswith(("/events", "/audit")):
        body = {"items": []}
    return httpx.Response(200, json=body)

transport = httpx.MockTransport(answer)
Session.client = lambda self, timeout_seconds=1.0: Client("http://control", "ck", transport=transport)
try:
    main(sys.argv[1:])
except SystemExit as left:
    assert not left.code, left.code
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
PLAIN = """
import json, sys
from control.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as left:
    assert not left.code, left.code
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
CLIENT = """
import json, sys
from control.cli.asking.session import Session
print(Session.load().client().base_url)
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
MANIFEST = """
apiVersion: computility.io/v1alpha1
kind: Model
metadata: {name: tiny, project: search}
spec: {source: org/tiny}
"""


def modules_after(
    script: str, *arguments: str, home: Path, variables_told: dict[str, str] | None = None
) -> tuple[str, set[str]]:
    """What a call prints, and the modules that it has loaded."""
    told = {name: text for name, text in variables().items() if not name.startswith("COMPUTILITY_")}
    environment = {**told, "PYTHONPATH": str(ROOT), "COMPUTILITY_HOME": str(home), **(variables_told or {})}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, set(json.loads(done.stderr.splitlines()[-1]))


def heavy(loaded: set[str], forbidden: set[str]) -> list[str]:
    return sorted(name for name in forbidden if name in loaded)


def completing(words: str) -> dict[str, str]:
    position = str(words.count(" "))
    return {"_COMPUTILITY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": position}


def test_the_help_loads_no_command(tmp_path: Path) -> None:
    shown, loaded = modules_after(PLAIN, "--help", home=tmp_path)
    assert "endpoint" in shown or "Endpoint" in shown
    assert heavy(loaded, NO_CLIENT) == []
    assert not {"control.cli.get", "control.cli.observe"} & loaded


@pytest.mark.parametrize(
    "line",
    [
        "get models",
        "get mo -o json",
        "get all -A",
        "keys list",
        "files list -p search",
        "finetunes list -p search",
        "events",
        "jobs list",
        "scale --help",
        "config list",
        "whoami",
        "audit",
    ],
)
def test_what_only_asks_loads_a_client_and_a_table(line: str, tmp_path: Path) -> None:
    _, loaded = modules_after(CALL, *line.split(), home=tmp_path)
    assert heavy(loaded, HEAVY) == []


@pytest.mark.parametrize(
    "line",
    [
        "apply -f {file}",
        "apply -f {file} --dry-run",
        "diff -f {file}",
        "patch mo tiny -p {{}}",
        "get mo -o yaml",
    ],
)
def test_what_reads_or_writes_documents_loads_yaml_besides(line: str, tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(MANIFEST)
    _, loaded = modules_after(CALL, *line.format(file=file).split(), home=tmp_path)
    assert heavy(loaded, HEAVY) == ["yaml"]


@pytest.mark.parametrize("line", ["explain model", "explain endpoint.spec.devices"])
def test_the_reference_of_fields_loads_no_kind_and_no_client(line: str, tmp_path: Path) -> None:
    shown, loaded = modules_after(PLAIN, *line.split(), home=tmp_path)
    assert "fields:" in shown
    assert heavy(loaded, (HEAVY | {"httpx"}) - {"yaml"}) == []


@pytest.mark.parametrize(
    ("told", "file", "url"),
    [
        ({}, "", "http://kept:1"),
        ({"COMPUTILITY_GATEWAY__PORT": "9000", "COMPUTILITY_LOG_LEVEL": "debug"}, "", "http://kept:1"),
        ({}, "gateway: {port: 9000, allow_clear_text: false}\nlimits: {}\n", "http://kept:1"),
        ({}, "control_base_url: https://filed:1\n", "https://filed:1"),
        (
            {"COMPUTILITY_CONTROL_BASE_URL": "http://told:1"},
            "control_base_url: http://filed:1\n",
            "http://told:1",
        ),
    ],
)
def test_who_only_asks_loads_no_settings_whatever_is_set(
    told: dict[str, str], file: str, url: str, tmp_path: Path
) -> None:
    (tmp_path / "cli.json").write_text(json.dumps({"api_key": "ck-kept", "control_url": "http://kept:1"}))
    if file:
        (tmp_path / "computility.yaml").write_text(file)
    shown, loaded = modules_after(CLIENT, home=tmp_path, variables_told=told)
    assert shown.strip() == url
    assert heavy(loaded, HEAVY - {"yaml"}) == []


@pytest.mark.parametrize(
    ("told", "file"),
    [
        ({"COMPUTILITY_GATEWAY__PRT": "9000"}, ""),
        ({}, "gateway: {prt: 9000}\n"),
        ({}, "control: {urls: ['http://a:1']}\n"),
        ({}, "api_key: 7\n"),
        ({}, "home: /other\n"),
        ({}, "a: {\n"),
        ({}, "[1]\n"),
        ({"COMPUTILITY_GATEWAY": "{}"}, ""),
    ],
)
def test_what_only_the_settings_can_tell_or_refuse_is_left_to_them(
    told: dict[str, str], file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "computility.yaml").write_text(file)
    assert Session.load(tmp_path)._plain is None


def test_completion_of_commands_and_kinds_loads_no_client(tmp_path: Path) -> None:
    shown, loaded = modules_after(PLAIN, home=tmp_path, variables_told=completing("computility ge"))
    assert shown.split() == ["get"]
    assert heavy(loaded, NO_CLIENT) == []
    shown, loaded = modules_after(PLAIN, home=tmp_path, variables_told=completing("computility get ep,mo"))
    assert shown.split() == ["ep,models", "ep,mo"]
    assert heavy(loaded, HEAVY | {"httpx"}) == []


@pytest.mark.parametrize(
    "words", ["computility get models ", "computility describe mo t", "computility get mo -p "]
)
def test_completion_of_names_loads_a_client_alone(words: str, tmp_path: Path) -> None:
    shown, loaded = modules_after(CALL, home=tmp_path, variables_told=completing(words))
    assert shown.split() == ["tiny"]
    assert heavy(loaded, HEAVY) == []


@pytest.mark.parametrize(
    ("shell", "told"),
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "computility get mo"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "computility get mo", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_every_shell_is_answered(shell: str, told: dict[str, str], tmp_path: Path) -> None:
    told = {"_COMPUTILITY_COMPLETE": f"complete_{shell}", **told}
    shown, loaded = modules_after(PLAIN, home=tmp_path, variables_told=told)
    assert "models" in shown
    assert heavy(loaded, HEAVY | {"httpx"}) == []
    script, _ = modules_after(PLAIN, "completion", shell, home=tmp_path)
    assert "_COMPUTILITY_COMPLETE=complete_" + shell in script


def test_no_module_of_a_command_that_asks_loads_the_product(tmp_path: Path) -> None:
    script = """
import json, sys
from importlib import import_module
from control.cli.commands import COMMANDS, HERE
for row in COMMANDS.values():
    if row.panel != HERE:
        import_module(f"control.cli.{row.module}")
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
    _, loaded = modules_after(script, home=tmp_path)
    assert heavy(loaded, HEAVY - {"yaml"}) == []


def test_the_names_of_kinds_are_those_of_the_kinds() -> None:
    names = [(one.kind, one.plural, one.scope) for one in KIND_NAMES]
    assert names == [(kind, cls.PLURAL, cls.SCOPE) for kind, cls in KINDS.items()]
    assert API_VERSION == RESOURCE_VERSION
