"""Which tests run which lines: recorded once, and again for the test files that have changed since.

A line is matched as long as its file is as it was; in a file that has changed since, a whole function stands
for its lines.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.mutants.operators import Mutant, functions_of

FILES_AT_ONCE = 25
"""So many test files are recorded together: the map is kept after each such part."""
Record = dict[str, Any]
"""Of one test: ``seconds``, ``passed``, and ``places``: file -> lines that it ran, as a number of bits."""


@dataclass(frozen=True)
class CoveringTest:
    """A test that may notice a mutant, and how long it took while it was recorded."""

    name: str
    seconds: float


class CoverageMap:
    """The map of one tree, kept in a file between runs."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._files: dict[str, Any] = {}
        if file.exists():
            self._files = json.loads(gzip.decompress(file.read_bytes()))

    def stale(self, root: Path, suites: Iterable[str]) -> list[str]:
        """The test files of the suites that are new or have changed since they were recorded."""
        there = {path.relative_to(root).as_posix() for s in suites for path in _test_files(root / s)}
        return sorted(name for name in there if self._of(name) != _digest(root / name))

    def record(self, root: Path, test_files: list[str], packages: tuple[str, ...]) -> Iterator[str]:
        """Run these test files and keep what they run. Yields the tests that failed: they judge nothing."""
        for start in range(0, len(test_files), FILES_AT_ONCE):
            yield from self._record(root, test_files[start : start + FILES_AT_ONCE], packages)

    def _record(self, root: Path, test_files: list[str], packages: tuple[str, ...]) -> list[str]:
        out = self._file.with_suffix(".raw")
        self._file.parent.mkdir(parents=True, exist_ok=True)
        environment = quiet_environment(root) | {
            "MUTANTS_SOURCES": ",".join(packages),
            "MUTANTS_RECORD": str(out),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=0"]
        command += ["-p", "tools.mutants.recorder", *test_files]
        subprocess.run(command, cwd=root, env=environment, stdout=sys.stderr, check=False)
        tests: Record = json.loads(out.read_text())
        out.unlink()
        sources = {name: _digest(root / name) for test in tests.values() for name in test["lines"]}
        for name in test_files:
            self._files[name] = {"digest": _digest(root / name), "sources": {}, "tests": {}}
        for name, test in tests.items():
            kept = self._files[name.partition("::")[0]]
            lines = test.pop("lines")
            kept["sources"] |= {source: sources[source] for source in lines}
            kept["tests"][name] = test | {"lines": {source: _bits(of) for source, of in lines.items()}}
        self._keep_functions(root, sources)
        self._file.write_bytes(gzip.compress(json.dumps(self._files).encode(), 1))
        return [name for name, test in tests.items() if not test["passed"]]

    def _keep_functions(self, root: Path, sources: dict[str, str]) -> None:
        """The functions of each version of a source file that a test has run."""
        versions = self._files.setdefault("", {})
        for name, digest in sources.items():
            if digest not in versions:
                versions[digest] = {str(k): v for k, v in functions_of((root / name).read_bytes()).items()}

    def _of(self, test_file: str) -> str:
        return str(self._files.get(test_file, {}).get("digest", ""))

    def look_up(self, root: Path) -> LookUp:
        """The map turned round, for the tree as it is now."""
        return LookUp(self._files, root)


class LookUp:
    """The tests by what they run."""

    def __init__(self, files: dict[str, Any], root: Path) -> None:
        versions: dict[str, dict[str, str]] = files.get("", {})
        self._root = root
        digests: dict[str, str] = {}
        self._by_line: dict[tuple[str, int], list[CoveringTest]] = defaultdict(list)
        self._by_function: dict[tuple[str, str], dict[str, CoveringTest]] = defaultdict(dict)
        self._by_file: dict[str, dict[str, CoveringTest]] = defaultdict(dict)
        for test_file, kept in files.items():
            if not test_file or not (root / test_file).exists():
                continue
            for name, test in kept["tests"].items():
                if not test["passed"]:
                    continue
                found = CoveringTest(name, test["seconds"])
                for source, bits in test["lines"].items():
                    then = kept["sources"][source]
                    functions = versions[then]
                    if source not in digests:
                        digests[source] = _digest(root / source)
                    for line in _lines(bits):
                        place = functions.get(str(line))
                        if place is None:
                            continue
                        self._by_file[source][name] = found
                        if digests[source] == then:
                            self._by_line[source, line].append(found)
                        else:
                            self._by_function[source, place][name] = found

    def tests_for(self, mutant: Mutant) -> list[CoveringTest]:
        """Those that run the mutated lines; where the import of the module runs them, all of the module's. A
        module of which no test runs anything may run in a process of its own: those of who imports it.
        """
        if not self._by_file.get(mutant.path):
            importers = [path for path in self._by_file if self._imports(path, mutant.path)]
            return list(
                {name: test for path in importers for name, test in self._by_file[path].items()}.values()
            )
        found: dict[str, CoveringTest] = {}
        for line in range(mutant.lines[0], mutant.lines[1] + 1):
            found |= {test.name: test for test in self._by_line.get((mutant.path, line), ())}
        found |= self._by_function.get((mutant.path, mutant.place), {})
        if not found and not mutant.in_function:
            found = self._by_file.get(mutant.path, {})
        return list(found.values())

    def _imports(self, path: str, other: str) -> bool:
        package, _, module = other.removesuffix(".py").replace("/", ".").rpartition(".")
        source = (self._root / path).read_text() if (self._root / path).exists() else ""
        names = rf"(?:from {re.escape(package)} import .*\b{module}\b)|(?:\b{re.escape(package)}\.{module}\b)"
        return re.search(names, source) is not None


def in_order(tests: list[CoveringTest], most_seconds: float) -> list[CoveringTest]:
    """Quick test files first, whole files together; no more than would take so many seconds."""
    by_file: dict[str, list[CoveringTest]] = defaultdict(list)
    for test in sorted(tests, key=lambda test: (test.seconds, test.name)):
        by_file[test.name.partition("::")[0]].append(test)
    # The first of each file come first: tests of other files see other things.
    ordered = [
        test
        for rank in range(max((len(of) for of in by_file.values()), default=0))
        for test in sorted(
            (of[rank] for of in by_file.values() if rank < len(of)),
            key=lambda test: (test.seconds, test.name),
        )
    ]
    chosen: list[CoveringTest] = []
    spent = 0.0
    for test in ordered:
        if chosen and spent + test.seconds > most_seconds:
            continue
        spent += test.seconds
        chosen.append(test)
    first = {
        name: at for at, name in reversed(list(enumerate(test.name.partition("::")[0] for test in chosen)))
    }
    return sorted(chosen, key=lambda test: first[test.name.partition("::")[0]])


def quiet_environment(root: Path) -> dict[str, str]:
    """The same draws of random worlds and the same order of sets in every run."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {"PYTHONPATH": str(root), "PYTHONHASHSEED": "0", "CI": "1"}


def _test_files(folder: Path) -> list[Path]:
    return [folder] if folder.is_file() else sorted(folder.rglob("test_*.py"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


def _bits(lines: list[int]) -> str:
    return f"{sum(1 << line for line in set(lines)):x}"


def _lines(bits: str) -> list[int]:
    number, lines = int(bits, 16), []
    while number:
        lowest = number & -number
        lines.append(lowest.bit_length() - 1)
        number ^= lowest
    return lines
