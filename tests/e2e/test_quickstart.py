"""The quick start as it stands in the documentation, typed by a newcomer: each line is run, and has to print
what the page says that it prints."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fixtures.platform import Running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "quickstart.md").read_text()
FENCE = re.compile(r'^```(\w+)(?: title="([\w./]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)
ANYTHING = "…"
BEFORE = ("make up", "source .venv")
"""What has been done already where this runs."""
AFTER = ("computility down",)
"""What would take the platform from the tests that come after."""
ADDRESS = "http://127.0.0.1:8000/v1"
"""Of the gateway, as the page names it."""


@dataclass
class Typed:
    """A line that is typed, and what the page says that it prints; ``…`` stands for anything."""

    line: str
    printed: list[str] = field(default_factory=list)


def steps() -> Iterator[Typed | tuple[str, str]]:
    """The page from its beginning: lines that are typed, and files (name, text) that are written."""
    for language, title, text in FENCE.findall(PAGE):
        if title:
            yield title, text
        if language != "console":
            continue
        typed: list[Typed] = []
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                typed.append(Typed(line.removeprefix("$ ")))
            else:
                typed[-1].printed.append(line)
        yield from (one for one in typed if not one.line.startswith((*BEFORE, *AFTER)))


class Shell:
    """One bash that lives through the whole page, as a newcomer's does."""

    def __init__(self, folder: Path, home: Path) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("COMPUTILITY", "OPENAI"))
        }
        environment = {**kept, "PATH": path, "COMPUTILITY_HOME": str(home), "PYTHONPATH": str(ROOT)}
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, line: str) -> tuple[str, int]:
        """What the line printed, and its exit code."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{{ {line}\n}} </dev/null\nprintf '\\nended %s\\n' $?\n")
        self._bash.stdin.flush()
        printed: list[str] = []
        for read in self._bash.stdout:
            if found := re.fullmatch(r"ended (\d+)\n", read):
                return "".join(printed).removesuffix("\n"), int(found[1])
            printed.append(read)
        raise AssertionError(f"bash ended in {line!r}: {''.join(printed)}")

    def close(self) -> None:
        self._bash.kill()
        self._bash.wait()


@pytest.fixture
def shell(running_platform: Running, tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    made = Shell(tmp_path, running_platform.settings.home)
    yield made
    made.close()


def as_pattern(printed: list[str]) -> str:
    """What matches the output that the page shows, however wide its tables are."""
    words = [re.escape(word).replace(ANYTHING, r"[\s\S]*?") for word in " ".join(printed).split()]
    return r"\s*".join(["", *words, ""])


def test_the_page_is_what_happens(running_platform: Running, shell: Shell, tmp_path: Path) -> None:
    done: list[str] = []
    for step in steps():
        if isinstance(step, tuple):
            name, text = step
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
            continue
        line = step.line.replace(ADDRESS, running_platform.base_url)
        printed, code = shell.run(line)
        done.append(f"$ {line}\n{printed}")
        transcript = "\n".join(done)
        print(done[-1])
        assert code == 0, transcript
        assert re.fullmatch(as_pattern(step.printed), printed), transcript
    assert len(done) > 10
