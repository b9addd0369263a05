"""Rules of the code's shape that import-linter cannot state: see docs/design/architecture.md.

A finding names the file and line; the way out is to move the code to the module that owns the matter, not to
widen a list here.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("common", "scheduler", "inference", "finetune", "jobs", "batches", "billing", "control"),
    "operators",
)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70
MAX_TEST_FILES = 15

ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.unsetenv"}
WALL_CLOCK = {
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "time.gmtime",
    "time.localtime",
    "time.time",
    "time.time_ns",
}
RANDOM_IDS = {"os.urandom", "random.SystemRandom", "secrets", "uuid"}
CORE_MAY_IMPORT = {
    "__future__",
    "abc",
    "array",
    "bisect",
    "collections",
    "common.data_class",
    "common.errors",
    "common.compact_json",
    "common.records",
    "common.strict_json",
    "common.units",
    "common.vocabulary",
    "common.weekly",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "math",
    "numpy",
    "operator",
    "re",
    "statistics",
    "string",
    "types",
    "typing",
    "unicodedata",
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def product_files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def sources() -> list[Path]:
    return [
        *product_files(),
        *(path for folder in ("tests", "tools") for path in (ROOT / folder).rglob("*.py")),
    ]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def names_of_imports(module: ast.Module) -> dict[str, str]:
    """What each imported local name stands for, e.g. ``{"utcnow": "datetime.datetime.utcnow"}``."""
    names: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                local = alias.asname or alias.name.partition(".")[0]
                names[local] = alias.name if alias.asname else local
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    """The full dotted name of an attribute chain that starts at an import, else None."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        start = dotted(node.value, names)
        return f"{start}.{node.attr}" if start else None
    return None


def uses(module: ast.Module, forbidden: set[str]) -> Iterator[tuple[int, str]]:
    """Line and name of each use of a forbidden name or of anything below it."""
    names = names_of_imports(module)
    for node in ast.walk(module):
        if isinstance(node, ast.Name | ast.Attribute):
            name = dotted(node, names)
            if name and any(name == other or name.startswith(f"{other}.") for other in forbidden):
                yield node.lineno, name


def imported_modules(module: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def findings(paths: list[Path], look: Callable[[ast.Module], Iterator[tuple[int, str]]]) -> list[str]:
    return [
        f"{relative(path)}:{line}: {what}" for path in paths for line, what in sorted(set(look(tree(path))))
    ]


@pytest.mark.parametrize(
    ("forbidden", "home"),
    [
        pytest.param(ENVIRONMENT, "common/environment.py", id="environment"),
        pytest.param(WALL_CLOCK, "common/clock.py", id="wall-clock"),
        pytest.param(RANDOM_IDS, "common/ids.py", id="ids-and-secrets"),
    ],
)
def test_each_source_of_the_outside_world_has_one_home(forbidden: set[str], home: str) -> None:
    elsewhere = [path for path in product_files() if relative(path) != home]
    assert findings(elsewhere, lambda module: uses(module, forbidden)) == [], f"this belongs to {home}"


def test_a_core_imports_only_data_types_and_arithmetic() -> None:
    cores = [path for path in product_files() if "core" in path.relative_to(ROOT).parts[1:-1]]

    def impure(module: ast.Module) -> Iterator[tuple[int, str]]:
        for line, name in imported_modules(module):
            inside = re.match(r"\w+\.core(\.|$)", name) or name.startswith(".")
            if not inside and not any(name == ok or name.startswith(f"{ok}.") for ok in CORE_MAY_IMPORT):
                yield line, name

    assert findings(cores, impure) == []


def test_every_folder_of_code_is_a_package_that_contracts_see() -> None:
    """import-linter passes over a folder without ``__init__.py``, and over all that it imports."""
    folders = {path.parent for path in product_files()}
    assert sorted(relative(folder) for folder in folders if not (folder / "__init__.py").is_file()) == []


def test_the_map_of_the_scheduler_names_every_room() -> None:
    core = ROOT / "scheduler/core"
    rooms = {path.name for path in core.iterdir() if (path / "__init__.py").is_file()}
    files = {path.name for path in core.glob("*.py")} - {"__init__.py"}
    page = (ROOT / "docs/design/scheduler-map.md").read_text(encoding="utf-8")
    picture = (ROOT / "docs/images/scheduler.svg").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)/` ", page, re.MULTILINE))
    assert (named, set(re.findall(r"^\| `(\w+\.py)` ", page, re.MULTILINE))) == (rooms, files)
    assert {name for name in rooms if f">{name}</text>" not in picture} == set()


def test_tests_of_the_scheduler_lie_where_what_they_test_lies() -> None:
    """On top lie the worlds and scenes that they share; ``loop`` is what lies beside the rooms.
    ``scenarios``, ``approved`` and ``drawn`` are about all, ``asked`` about all of the core, ``contracts``
    about what others are asked for."""
    suite, rooms = ROOT / "tests/unit/scheduler", [ROOT / "scheduler", ROOT / "scheduler/adapters"]
    files = [path.relative_to(suite) for path in suite.rglob("test_*.py")]
    folders = Counter(path.parent.as_posix() for path in files)
    own = {"loop", "scenarios", "approved", "drawn", "asked", "contracts"}
    strange = {name for name in folders if name not in own and not any((at / name).is_dir() for at in rooms)}
    assert strange | folders.keys() & {"."} == set()
    assert {name: count for name, count in folders.items() if count > MAX_TEST_FILES} == {}


def test_files_that_design_pages_name_are_there() -> None:
    gone = [
        f"{page.name}: {path}"
        for page in sorted((ROOT / "docs/design").glob("*.md"))
        for path in re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text(encoding="utf-8"))
        if not any((ROOT / package / path).is_file() for package in ("", *PACKAGES))
    ]
    assert gone == []


def test_a_file_is_about_one_idea() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_a_function_fits_a_screen() -> None:
    def long_functions(module: ast.Module) -> Iterator[tuple[int, str]]:
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    yield node.lineno, f"{node.name} has {lines} lines"

    assert findings(sources(), long_functions) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os\nhome = os.environ['HOME']", "os.environ"),
        ("from os import getenv as g\nhome = g('HOME')", "os.getenv"),
        ("from datetime import datetime\nnow = datetime.now()", "datetime.datetime.now"),
        ("import datetime as dt\nnow = dt.datetime.utcnow()", "datetime.datetime.utcnow"),
        ("import time\nnow = time.time", "time.time"),
        ("def f():\n    from uuid import uuid4\n    return uuid4()", "uuid.uuid4"),
    ],
)
def test_the_rules_see_through_aliases(source: str, found: str) -> None:
    names = {name for _, name in uses(ast.parse(source), ENVIRONMENT | WALL_CLOCK | RANDOM_IDS)}
    assert found in names


def test_time_spans_and_plain_datetimes_are_no_wall_clock() -> None:
    source = (
        "import time\nfrom datetime import datetime\nstart = time.monotonic()\nday = datetime(2026, 1, 1)"
    )
    assert list(uses(ast.parse(source), WALL_CLOCK)) == []


def test_fixtures_of_a_package_are_in_one() -> None:
    """In a folder that is no package they would live until the end of the whole run."""
    found = [path for path in (ROOT / "tests").rglob("*.py") if 'scope="pack' + 'age"' in path.read_text()]
    assert [relative(path) for path in found if not (path.parent / "__init__.py").exists()] == []


def test_a_package_of_tests_lies_in_packages() -> None:
    """Else its name leaves out its folders: two of one name cannot be collected, and may hide a library."""
    tests = ROOT / "tests"
    packages = [path.parent for path in tests.rglob("__init__.py") if path.parent != tests]
    assert [relative(path) for path in packages if not (path.parent / "__init__.py").exists()] == []
