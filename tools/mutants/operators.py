"""The small changes that are tried: from a module's source to the mutants of it.

What no test could judge is left as it is: docstrings, annotations, decorators, log calls and their
conditions, asserts, texts, hashes, and numbers that have a name of their own at the top of a module (a pause
has no right length).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "//",
}
_OPPOSITE_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_TALK = {"debug", "info", "warning", "error", "exception"}
_WORDS_ONLY = {"description", "title", "help", "strict", "separators"}
"""Keywords that hold a text for people, that of ``zip``, which asserts what is known, and the blanks of
JSON."""
_FOR_NOBODY = {"__hash__", "__repr__"}
"""Methods whose answer no user sees: what is equal stays equal, whatever a hash leaves out."""
_OF_TYPES = {"Callable", "Literal", "dict", "frozenset", "list", "set", "tuple", "type"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Mutant:
    """One change of one file. A test must run one of ``lines`` (first, last) to notice it."""

    path: str
    place: str
    """The function or class, dotted; empty at the top of the module."""
    line: int
    lines: tuple[int, int]
    operator: str
    before: str
    after: str
    nth: int
    """Tells changes apart that read the same in one place; from 0."""
    start: int
    end: int
    """Where the changed bytes stand in the source."""
    new: bytes = field(repr=False)
    in_function: bool = True
    """Otherwise it runs when the module is imported."""

    @property
    def key(self) -> str:
        """Names the mutant whatever stands above it in the file."""
        number = f" #{self.nth}" if self.nth else ""
        return f"{self.path} {self.place or '-'} {self.operator}{number}: {self.before} => {self.after}"

    def applied(self, source: bytes) -> bytes:
        """The mutated source."""
        return source[: self.start] + self.new + source[self.end :]

    def compiles(self, source: bytes) -> bool:
        """Whether the mutated source is Python at all."""
        try:
            compile(self.applied(source), self.path, "exec", dont_inherit=True)
        except SyntaxError:
            return False
        return True


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """All mutants of a module, in the order of the source; a few may not compile."""
    return _Finder(path, source).find()


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, source: bytes) -> None:
        self._path = path
        self._source = source
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._places: list[str] = []
        self._depth = 0
        self._seen: dict[tuple[str, ...], int] = {}
        self._found: list[Mutant] = []

    def find(self) -> list[Mutant]:
        self.visit(ast.parse(self._source))
        return sorted(self._found, key=lambda mutant: (mutant.start, mutant.operator, mutant.after))

    # --- what is walked -----------------------------------------------------------------------------------

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            if _is_left_alone(node):
                return
            self._drop_statement(node)
        super().visit(node)

    def _visit_function(self, node: _Function) -> None:
        if node.name in _FOR_NOBODY:
            return
        self._places.append(node.name)
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        self._depth += 1
        for statement in node.body:
            self.visit(statement)
        self._depth -= 1
        self._places.pop()

    visit_FunctionDef = _visit_function  # noqa: N815 (the names that ast asks for)
    visit_AsyncFunctionDef = _visit_function  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._places.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self._places.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """A text for people: its parts have no place in the source of their own."""

    # --- what is changed ----------------------------------------------------------------------------------

    def visit_Compare(self, node: ast.Compare) -> None:
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            self._between(node, left, right, "comparison", _COMPARISONS[type(operator)])
            left = right
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = "or" if isinstance(node.op, ast.And) else "and"
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._between(node, left, right, "boolean", other)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._replace(node, "not", b"bool(" + self._text(node.operand) + b")")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = _ARITHMETIC.get(type(node.op))
        if other is not None and not any(_is_text(side) for side in (node.left, node.right)):
            self._between(node, node.left, node.right, "arithmetic", other)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        other = _ARITHMETIC.get(type(node.op))
        if other is not None and not _is_text(node.value):
            self._between(node, node.target, node.value, "arithmetic", f"{other}=")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace(node, "constant", str(not node.value).encode())
        elif isinstance(node.value, int | float):
            self._replace(node, "constant", str(node.value + 1).encode())

    def visit_If(self, node: ast.If | ast.IfExp) -> None:
        if not _is_turned_elsewhere(node.test):
            self._replace(node.test, "condition", b"(not (" + self._text(node.test) + b"))")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit_If(node)

    def visit_Return(self, node: ast.Return) -> None:
        value = node.value
        if value is not None and not isinstance(value, ast.Constant):
            self._replace(value, "return", b"None")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and node.func.attr in _TALK:
            return
        if isinstance(node.func, ast.Name) and node.func.id in _OPPOSITE_CALLS:
            self._replace(node.func, "call", _OPPOSITE_CALLS[node.func.id].encode())
        parts: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
        parts.sort(key=lambda part: (part.lineno, part.col_offset))
        for at, part in enumerate(parts):
            if isinstance(part, ast.keyword) and part.arg and part.arg not in _WORDS_ONLY:
                self._drop_part(node, "keyword", parts, at)
        self.visit(node.func)
        for part in parts:
            if not (isinstance(part, ast.keyword) and part.arg in _WORDS_ONLY):
                self.visit(part)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """A type that has a name of its own is an annotation."""
        if not (isinstance(node.value, ast.Name) and node.value.id in _OF_TYPES):
            self.generic_visit(node)

    def _visit_elements(self, node: ast.Set | ast.Tuple | ast.List) -> None:
        """A pair is left whole: code that unpacks it breaks at once."""
        is_read = isinstance(node, ast.Set) or isinstance(node.ctx, ast.Load)
        if is_read and len(node.elts) > (1 if isinstance(node, ast.Set) else 2):
            for at in range(len(node.elts)):
                self._drop_part(node, "element", node.elts, at)
        self.generic_visit(node)

    visit_Set = _visit_elements  # noqa: N815
    visit_Tuple = _visit_elements  # noqa: N815
    visit_List = _visit_elements  # noqa: N815

    def _drop_statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Expr):
            worth = isinstance(node.value, ast.Call | ast.Await | ast.Yield) and not _is_talk(node.value)
        elif isinstance(node, ast.Assign):
            worth = all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets)
        else:
            worth = isinstance(node, ast.AugAssign | ast.Raise | ast.Continue | ast.Break | ast.Delete)
        if worth and self._depth:
            self._replace(node, "statement", b"pass")

    # --- how it is written down ---------------------------------------------------------------------------

    def _between(self, node: ast.AST, left: ast.expr, right: ast.expr, operator: str, new: str) -> None:
        """Change the operator that stands between two operands; parentheses around them stay."""
        start, end = self._span(left)[1], self._span(right)[0]
        between = self._source[start:end]
        if b"#" in between:
            return
        stripped = between.strip(b" \t\n\\()")
        at = start + between.index(stripped)
        self._add(node, operator, at, at + len(stripped), new.encode())

    def _drop_part(
        self, node: ast.AST, operator: str, parts: Sequence[ast.expr | ast.keyword], at: int
    ) -> None:
        """Leave out one of several parts that commas divide, with the comma after it or before it."""
        start, end = self._span(parts[at])
        if at + 1 < len(parts):
            end = self._span(parts[at + 1])[0]
        elif at > 0:
            start = self._span(parts[at - 1])[1]
        dropped = self._source[start:end]
        if b"#" not in dropped and b"(" not in dropped.replace(self._text(parts[at]), b""):
            self._add(node, operator, start, end, b"")

    def _replace(self, node: ast.AST, operator: str, new: bytes) -> None:
        start, end = self._span(node)
        self._add(node, operator, start, end, new)

    def _add(self, node: ast.AST, operator: str, start: int, end: int, new: bytes) -> None:
        place = ".".join(self._places)
        first, last = self._span(node)
        before = _one_line(self._source[first:last])
        after = _one_line(self._source[first:start] + new + self._source[end:last])
        same = (place, operator, before, after)
        nth = self._seen[same] = self._seen.get(same, -1) + 1
        line = self._source.count(b"\n", 0, start) + 1
        lines = (self._source.count(b"\n", 0, first) + 1, self._source.count(b"\n", 0, last) + 1)
        self._found.append(
            Mutant(
                self._path,
                place,
                line,
                lines,
                operator,
                before,
                after,
                nth,
                start,
                end,
                new,
                in_function=self._depth > 0,
            )
        )

    def _text(self, node: ast.AST) -> bytes:
        start, end = self._span(node)
        return self._source[start:end]

    def _span(self, node: ast.AST) -> tuple[int, int]:
        located: ast.expr = node  # type: ignore[assignment]  # all nodes that come here have a place
        assert located.end_lineno is not None
        assert located.end_col_offset is not None
        start = self._starts[located.lineno - 1] + located.col_offset
        return start, self._starts[located.end_lineno - 1] + located.end_col_offset


def _is_left_alone(node: ast.stmt) -> bool:
    """Whether the statement is no behaviour, or one that no test could judge."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert):
        return True
    if isinstance(node, ast.If):
        test = ast.unparse(node.test)
        talks = all(isinstance(each, ast.Expr) and _is_talk(each.value) for each in node.body)
        return test in ("TYPE_CHECKING", "__name__ == '__main__'") or (talks and not node.orelse)
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) or _is_talk(node.value)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        named = isinstance(target, ast.Name) and (
            target.id.strip("_").isupper() or target.id.startswith("__")
        )
        return named and _is_number(node.value)
    return False


def _is_turned_elsewhere(test: ast.expr) -> bool:
    """Whether another operator turns the condition round already."""
    if isinstance(test, ast.Compare):
        return len(test.ops) == 1 and not isinstance(test.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _is_number(node: ast.expr | None) -> bool:
    """Whether it is a number, written out or as a product or power of numbers, or several of them."""
    if isinstance(node, ast.Tuple):
        return all(_is_number(element) for element in node.elts)
    if isinstance(node, ast.BinOp):
        return _is_number(node.left) and _is_number(node.right)
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _is_talk(node: ast.expr) -> bool:
    """A call that only says something in the log."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _TALK


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )


def _one_line(text: bytes) -> str:
    return " ".join(text.decode().split())


def functions_of(source: bytes) -> dict[int, str]:
    """The place (as in ``Mutant.place``) that each line of a function's body belongs to."""
    places: dict[int, str] = {}

    def walk(node: ast.AST, names: tuple[str, ...]) -> Iterator[None]:
        for child in ast.iter_child_nodes(node):
            inner = names
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = (*names, child.name)
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                first = child.body[0].lineno
                places.update(dict.fromkeys(range(first, (child.end_lineno or first) + 1), ".".join(inner)))
            yield from walk(child, inner)

    for _ in walk(ast.parse(source), ()):
        pass
    return places
