"""A mutation run from the first look at the tests to the verdicts."""

import subprocess
from pathlib import Path

import pytest

from tools.mutants.coverage_map import CoverageMap, in_order
from tools.mutants.judging import Bench, copy_tree
from tools.mutants.operators import mutants_of
from tools.mutants.sampling import mutants_in

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]


def tree(root: Path) -> Path:
    """A product of one module, with tests that judge half of it."""
    (root / "product").mkdir(parents=True)
    (root / "product" / "sums.py").write_text(
        "LIMIT = {1, 2}\n\n\ndef total(a, b):\n    return a + b\n\n\ndef rest(a, b):\n    return a - b\n\n\n"
        "def unused(a):\n    return a * 2\n"
    )
    (root / "test_sums.py").write_text(
        "from product.sums import rest, total\n\n\ndef test_total():\n    assert total(1, 2) == 3\n\n\n"
        "def test_rest():\n    rest(1, 0)\n"
    )
    (root / "test_broken.py").write_text(
        "from product.sums import rest\n\n\ndef test_broken():\n    assert rest(1, 0) == 7\n"
    )
    subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
    return root


def test_mutants_are_judged_in_a_copy_by_the_tests_that_run_them(tmp_path: Path) -> None:
    root, copy = tree(tmp_path / "tree"), tmp_path / "copy"
    before = {path: path.read_bytes() for path in root.rglob("*.py")}
    copy_tree(root, copy)
    (copy / "tools").symlink_to(ROOT / "tools")
    covered = CoverageMap(tmp_path / "map.json.gz")
    stale = covered.stale(copy, ["test_sums.py", "test_broken.py"])
    assert stale == ["test_broken.py", "test_sums.py"]
    assert list(covered.record(copy, stale, ("product",))) == ["test_broken.py::test_broken"]
    kept = CoverageMap(tmp_path / "map.json.gz")
    assert kept.stale(copy, ["test_sums.py"]) == []
    tests = kept.look_up(copy)
    mutants = {mutant.key: mutant for mutant in mutants_in(root, ["product"])}
    bench = Bench(copy, ["test_sums.py"])
    try:
        verdicts = {}
        for key, mutant in mutants.items():
            judged = bench.judge(mutant, in_order(tests.tests_for(mutant), 10.0))
            verdicts[key.removeprefix("product/sums.py ")] = (judged.verdict, judged.by)
    finally:
        bench.close()
    assert verdicts["total arithmetic: a + b => a - b"] == ("killed", "test_sums.py::test_total")
    assert verdicts["rest arithmetic: a - b => a + b"] == ("survived", "")
    assert verdicts["unused arithmetic: a * 2 => a / 2"] == ("not run by a test", "")
    assert {path: path.read_bytes() for path in root.rglob("*.py")} == before
    assert (copy / "product" / "sums.py").read_bytes() == before[root / "product" / "sums.py"]


def test_a_function_stands_for_its_lines_where_its_file_has_changed_since(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree")
    (root / "tools").symlink_to(ROOT / "tools")
    covered = CoverageMap(tmp_path / "map.json.gz")
    assert list(covered.record(root, ["test_sums.py"], ("product",))) == []
    sums = root / "product" / "sums.py"
    sums.write_text(sums.read_text().replace("return a + b", "c = 0\n    return a + b + c"))
    tests = covered.look_up(root)
    found = {
        mutant.place: tests.tests_for(mutant) for mutant in mutants_of("product/sums.py", sums.read_bytes())
    }
    assert {place: [test.name for test in of] for place, of in found.items() if place} == {
        "total": ["test_sums.py::test_total"],
        "rest": ["test_sums.py::test_rest"],
        "unused": [],
    }
    assert len(found[""]) == 2, "what runs on import is judged by all tests of the module"
