"""What the README and the pages of documentation say, taken apart."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_PUNCTUATION = "();<>|&"


@dataclass(frozen=True)
class Block:
    """A fenced block. ``where``: file and line, for messages."""

    where: str
    language: str
    text: str


def blocks(*languages: str) -> Iterator[Block]:
    """The fenced blocks of these languages, of all documents."""
    for path in DOCUMENTS:
        text = path.read_text()
        for found in _FENCE.finditer(text):
            if found[1] in languages:
                line = text.count("\n", 0, found.start()) + 1
                yield Block(f"{path.relative_to(ROOT)}:{line}", found[1], found[2])


def prose() -> Iterator[tuple[str, str]]:
    """Each document with its path, without its fenced blocks."""
    for path in DOCUMENTS:
        yield str(path.relative_to(ROOT)), _FENCE.sub("", path.read_text())


def typed() -> Iterator[tuple[str, str]]:
    """Every line that somebody is told to type, without the prompt; one that goes on in the next is one."""
    for block in blocks("console", "sh", "bash", "shell"):
        text = block.text.replace("\\\n", " ")
        prompted = block.language == "console"
        for line in text.splitlines():
            if line.startswith("$ ") or (not prompted and line.strip() and not line.startswith("#")):
                yield block.where, line.removeprefix("$ ").strip()


def commands(line: str) -> Iterator[list[str]]:
    """The simple commands of a line of the shell, each as its words, without assignments before it."""
    words = shlex.shlex(line, posix=True, punctuation_chars=_PUNCTUATION)
    words.whitespace_split = True
    command: list[str] = []
    for word in [*words, ";"]:
        if set(word) <= set(_PUNCTUATION):
            if command:
                yield command
            command = []
        elif command or not _ASSIGNMENT.match(word):
            command.append(word)
