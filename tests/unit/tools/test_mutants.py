"""What the mutation run changes, which tests it asks, and that it leaves the tree alone."""

import json
from pathlib import Path

import pytest

from tools.mutants.coverage_map import CoveringTest, in_order, quiet_environment
from tools.mutants.operators import mutants_of
from tools.mutants.report import to_json
from tools.mutants.sampling import drawn, equivalents, gone, mutants_in


def changes(line: str, operator: str) -> set[str]:
    """What becomes of a line in a function by one operator, without the rest."""
    source = f"def f(a, b, c):\n    {line}\n".encode()
    found = [mutant for mutant in mutants_of("m.py", source) if mutant.operator == operator]
    assert all(mutant.compiles(source) for mutant in found)
    return {mutant.applied(source).decode().splitlines()[1].strip() for mutant in found}


@pytest.mark.parametrize(
    ("operator", "line", "expected"),
    [
        ("comparison", "x = a < b", {"x = a <= b"}),
        ("comparison", "x = a >= b", {"x = a > b"}),
        ("comparison", "x = (a) not in (b)", {"x = (a) in (b)"}),
        ("comparison", "x = a < b == c", {"x = a <= b == c", "x = a < b != c"}),
        ("comparison", "x = a is not None", {"x = a is None"}),
        ("boolean", "x = a and b and c", {"x = a or b and c", "x = a and b or c"}),
        ("not", "x = not a", {"x = bool(a)"}),
        ("condition", "x = a if b else c", {"x = a if (not (b)) else c"}),
        ("condition", "x = a if b is None else c", set()),  # the comparison is turned round already
        ("constant", "x = a + 1", {"x = a + 2"}),
        ("constant", "x = True", {"x = False"}),
        ("constant", "x = 'text'", set()),
        ("arithmetic", "x = a * b", {"x = a / b"}),
        ("arithmetic", "a += b", {"a -= b"}),
        ("arithmetic", "x = 'a' + b", set()),
        ("call", "x = min(a, b)", {"x = max(a, b)"}),
        ("keyword", "f(a, b=1, c=2)", {"f(a, c=2)", "f(a, b=1, )"}),
        ("keyword", "f(a=1)", {"f()"}),
        ("keyword", "f(a, description='x')", set()),
        ("keyword", "zip(a, b, strict=True)", set()),
        ("keyword", "json.dumps(a, separators=b)", set()),
        ("constant", "zip(a, b, strict=True)", set()),
        ("element", "x = {a, b}", {"x = {b}", "x = {a}"}),
        ("element", "x = (a, b, c)", {"x = (b, c)", "x = (a, c)", "x = (a, b)"}),
        ("element", "x = (a, b)", set()),
        ("statement", "a.clear()", {"pass"}),
        ("statement", "self.a = b", {"pass"}),
        ("statement", "raise ValueError", {"pass"}),
        ("statement", "x = a", set()),
        ("statement", "_log.warning('a', b=1)", set()),
        ("keyword", "_log.warning('a', b=1)", set()),
        ("return", "return a", {"return None"}),
        ("return", "return None", set()),
    ],
)
def test_each_operator_makes_the_change_that_it_is_named_for(
    operator: str, line: str, expected: set[str]
) -> None:
    found = {change.replace(", )", ")") for change in changes(line, operator)}
    assert found == {change.replace(", )", ")") for change in expected}


def test_what_no_test_could_judge_is_left_alone() -> None:
    source = b'''"""Text of 1."""
import a
PAUSE_SECONDS = 2 * 60
_BUCKETS = (0.1, 1, 10)
Places = tuple[int, str, float]
if __name__ == "__main__":
    main(1)
if PAUSE_SECONDS < 3:
    _log.warning("short", pause=1)


@dataclass(frozen=True)
class C:
    """Text."""

    limit: Annotated[int, 7]

    def __hash__(self):
        return hash((self.a, self.b, 1))


def f(a: Literal[1]) -> int:
    """Text of 1."""
    assert a == 1
    _log.info("x", a=1)
    f"{a + 1}"
'''
    assert mutants_of("m.py", source) == []


def test_a_mutant_is_known_by_what_it_changes_and_not_by_its_line() -> None:
    source = b"class C:\n    def f(self):\n        return [1, 1]\n"
    first = [mutant.key for mutant in mutants_of("m.py", source)]
    assert first == [mutant.key for mutant in mutants_of("m.py", b"# more\n\n" + source)]
    assert len(set(first)) == len(first)
    assert "m.py C.f constant: 1 => 2" in first
    assert "m.py C.f constant #1: 1 => 2" in first


def tree(root: Path) -> Path:
    """A product of one module."""
    (root / "product").mkdir(parents=True)
    (root / "product" / "sums.py").write_text(
        "LIMIT = {1, 2}\n\n\ndef total(a, b):\n    return a + b\n\n\ndef rest(a, b):\n    return a - b\n\n\n"
        "def unused(a):\n    return a * 2\n"
    )
    return root


def test_quick_tests_of_each_file_come_first_and_there_is_an_end_to_them() -> None:
    tests = [CoveringTest("a::slow", 5.0), CoveringTest("a::quick", 1.0), CoveringTest("b::one", 2.0)]
    assert [test.name for test in in_order(tests, 10.0)] == ["a::quick", "a::slow", "b::one"]
    assert [test.name for test in in_order(tests, 3.0)] == ["a::quick", "b::one"]
    assert [test.name for test in in_order(tests[:1], 1.0)] == ["a::slow"], "one is always asked"
    assert in_order([], 1.0) == []


def test_the_draw_follows_the_seed_and_leaves_out_what_is_equivalent(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree")
    mutants = list(mutants_in(root, ["product/sums.py"]))
    keys = [mutant.key for mutant in drawn(root, mutants, 3, 1, set())]
    assert keys == [mutant.key for mutant in drawn(root, list(reversed(mutants)), 3, 1, set())]
    assert keys != [mutant.key for mutant in drawn(root, mutants, 3, 2, set())]
    assert keys[0] not in [mutant.key for mutant in drawn(root, mutants, 0, 1, {keys[0]})]
    assert len(drawn(root, mutants, 0, 1, set())) == len(mutants)


def test_equivalent_mutants_that_are_gone_are_told() -> None:
    kept = mutants_of("m.py", b"def f(a):\n    return a\n")
    assert gone(kept, {kept[0].key: "a reason", "m.py f constant: 1 => 2": "another"}) == [
        "m.py f constant: 1 => 2"
    ]
    equivalents()


def test_a_line_without_a_reason_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "equivalent.txt"
    file.write_text("# words\n\nm.py f constant: 1 => 2 -- a bound of nothing\n")
    assert equivalents(file) == {"m.py f constant: 1 => 2": "a bound of nothing"}
    file.write_text("m.py f constant: 1 => 2\n")
    with pytest.raises(ValueError, match="give the reason"):
        equivalents(file)


def test_a_report_counts_what_was_noticed(tmp_path: Path) -> None:
    assert json.loads(json.dumps(to_json([], 1, 2.0)))["killed_percent"] == 100.0
    assert quiet_environment(tmp_path)["PYTHONPATH"] == str(tmp_path)
