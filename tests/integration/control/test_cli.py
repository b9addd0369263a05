"""The command line against a control process as it is."""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fixtures.control_process import ROOT, ControlProcess, running_control

pytestmark = pytest.mark.integration
MODELS = "".join(
    f"""apiVersion: computility.io/v1alpha1
kind: Model
metadata: {{name: model-{number}, project: search, labels: {{parity: "{number % 2}"}}}}
spec: {{source: org/tiny}}
---
"""
    for number in range(3)
)
EXAMPLES = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "yes"}]})
    + "\n"
    for n in range(10)
)


class Shell:
    """Calls commands with a key of the control process, each in a process of its own."""

    def __init__(self, control: ControlProcess, folder: Path) -> None:
        self._control, self.folder = control, folder
        self.seconds: list[float] = []

    def __call__(
        self, *arguments: str, stdin: str = "", code: int = 0, told: dict[str, str] | None = None
    ) -> str:
        around = {name: text for name, text in os.environ.items() if not name.startswith("COMPUTILITY_")}
        environment = {
            **around,
            "PYTHONPATH": str(ROOT),
            "COMPUTILITY_HOME": str(self.folder / "client"),
            "COMPUTILITY_CONTROL_BASE_URL": self._control.settings.control_url,
            "COMPUTILITY_GATEWAY_BASE_URL": "http://127.0.0.1:9/v1",
            "COMPUTILITY_API_KEY": self._control.key,
            **(told or {}),
        }
        command = [sys.executable, "-m", "control.cli.main", *arguments]
        done = subprocess.run(
            command, env=environment, input=stdin, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout if not code else done.stdout + done.stderr


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    async with running_control(tmp_path / "home") as control:
        yield Shell(control, tmp_path)


async def test_what_is_there_goes_out_and_in_again_and_is_changed(shell: Shell) -> None:
    file = shell.folder / "models.yaml"
    file.write_text(MODELS)
    assert "model/model-2 created" in shell("apply", "-f", str(file))
    everything = shell("get", "models,projects,tenants", "-o", "yaml")
    assert shell("apply", "-f", "-", stdin=everything).count("unchanged") == 5
    assert shell("get", "mo", "-l", "parity=0", "-o", "name").split() == ["model/model-0", "model/model-2"]
    assert shell("get", "mo", "-l", "parity!=0", "-o", "jsonpath={.items[*].metadata.name}") == "model-1\n"
    assert "did you mean model-1" in shell("get", "mo", "modle-1", code=4)
    patch = ["patch", "mo", "model-1", "-p", '{"spec": {"shared": true}}']
    assert "+  shared: true" in shell(*patch, "--dry-run")
    assert "configured" in shell(*patch)
    assert "unchanged" in shell(*patch)
    file.write_text(MODELS.replace("source: org/tiny}", "source: org/big}"))
    assert shell("diff", "-f", str(file), code=1).count("+  source: org/big") == 3
    file.write_text(MODELS.replace("source:", "sorce:"))
    assert "did you mean source?" in shell("apply", "-f", str(file), code=2)
    assert shell("get", "all", "-o", "name").split()[:2] == ["tenant/acme", "project/search"]


async def test_who_asks_and_who_did_what(shell: Shell) -> None:
    assert re.match(r"key +admin\nrole +platform-admin\n", shell("whoami"))
    assert "keys" in shell("audit", "--limit", "20")
    shell("keys", "create", "ci", "-p", "search", "--days", "3", "--rpm", "60", "--tpm", "9000")
    assert "60 rpm, 9000 tpm" in shell("keys", "list")
    assert "requestsPerMinute" in shell("describe", "apikey", "ci")
    assert "requestsPerMinute" in shell("keys", "create", "bad", "-p", "search", "--rpm", "0", code=2)
    assert "in 2d" in shell("keys", "list") or "in 3d" in shell("keys", "list")
    assert "nothing was used" in shell("usage", "--since", "24h")
    assert "--since" in shell("usage", "--since", "soon", code=2)


async def test_files_are_uploaded_read_and_deleted(shell: Shell) -> None:
    path = shell.folder / "train.jsonl"
    path.write_text(EXAMPLES)
    file = shell("files", "upload", str(path), "-n", "search").strip()
    assert file.startswith("file-")
    assert file in shell("files", "list", "-p", "search")
    assert shell("files", "get", file, "-p", "search") == EXAMPLES
    copy = shell.folder / "copy.jsonl"
    shell("files", "get", file, "--to", str(copy), "-p", "search")
    assert copy.read_text() == EXAMPLES
    create = ["finetunes", "create", "-p", "search", "-f"]
    assert "neither a file here" in shell(*create, "nope", "-m", "tiny", code=2)
    shell(*create, file, "-m", "nope", code=4)
    assert "deleted" in shell("files", "delete", file, "-p", "search")
    assert shell("finetunes", "list", "-p", "search").split()[0] == "ID"


async def test_a_shell_completes_kinds_and_names(shell: Shell) -> None:
    shell("apply", "-f", "-", stdin=MODELS)

    def completed(words: str) -> list[str]:
        position = str(words.count(" "))
        told = {"_COMPUTILITY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": position}
        return shell(told=told).split()

    assert completed("computility get mo") == ["models", "mo"]
    assert completed("computility get models model-") == ["model-0", "model-1", "model-2"]
    assert completed("computility get mo/model-2") == ["mo/model-2"]
    assert completed("computility get models -p ") == ["search"]
    assert completed("computility unc") == ["uncordon"]
