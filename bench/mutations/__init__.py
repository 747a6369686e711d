"""Generates mutants: small changes of Python source that a test should detect. Pure.

Docstrings, annotations, decorators, imports, logging calls, `__all__` and bodies of `...` are not
changed. Changes of numbers and of texts are separate classes, because most texts are only wording.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

COUNTED = ("comparison", "boundary", "boolean", "return", "statement")
APART = ("number", "text")
_NEGATED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn,
    ast.NotIn: ast.In, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
}  # fmt: skip
_SHIFTED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
_EMPTY = {"tuple": "()", "list": "[]", "dict": "{}", "set": "set()", "frozenset": "frozenset()"}
_LOGGERS = {"log", "logger", "logging"}
_UNTOUCHED = {"annotation", "returns", "decorator_list", "type_params"}
_ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: its class, its location, and the line of its statement before and after."""

    kind: str
    line: int
    function: str
    before: str
    after: str
    source: str

    @property
    def counts(self) -> bool:
        """Whether the change is counted: it changes neither a number nor a text."""
        return self.kind in COUNTED


@dataclass(frozen=True, slots=True)
class Site:
    """A possible change: `new` at `holder.field`, or at one index of that list."""

    kind: str
    statement: ast.AST
    function: str
    holder: ast.AST
    field: str
    index: int | None
    new: ast.AST

    @property
    def counts(self) -> bool:
        """Whether the change is counted: it changes neither a number nor a text."""
        return self.kind in COUNTED

    def put(self, node: ast.AST) -> ast.AST:
        """Replace the node at this location; returns the old node."""
        if self.index is None:
            before = getattr(self.holder, self.field)
            setattr(self.holder, self.field, node)
        else:
            nodes = getattr(self.holder, self.field)
            before, nodes[self.index] = nodes[self.index], node
        assert isinstance(before, ast.AST)
        return before


@dataclass(frozen=True, slots=True)
class _Scope:
    """The function or class around a statement, and its annotated return type."""

    name: str = ""
    returns: str = ""

    def inside(self, node: ast.AST) -> _Scope:
        """The scope of what is below a node."""
        if not isinstance(node, _SCOPES):
            return self
        returns = getattr(node, "returns", None)
        text = "" if returns is None else ast.unparse(returns)
        return _Scope(f"{self.name}.{node.name}".lstrip("."), text)


class Module:
    """A module's syntax tree and all its changes, in source order."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        self.sites = [
            site
            for index, statement in enumerate(self.tree.body)
            for site in _statement(statement, self.tree, "body", index, _Scope())
        ]

    def mutant(self, site: Site) -> Mutant:
        """The module with this one change."""
        before = _line(site.statement)
        old = site.put(site.new)
        try:
            removed = site.kind == "statement"
            after = "removed" if removed else _line(site.statement)
            source = ast.unparse(ast.fix_missing_locations(self.tree))
        finally:
            site.put(old)
        line = getattr(old, "lineno", getattr(site.holder, "lineno", 0))
        return Mutant(site.kind, line, site.function, before, after, source)


def _line(statement: ast.AST) -> str:
    """The statement in one line; for a compound statement its head."""
    text = ast.unparse(statement)
    if isinstance(statement, _SCOPES):
        heads = ("def ", "async def ", "class ")
        return next(row for row in text.splitlines() if row.startswith(heads))
    if getattr(statement, "body", None):
        return text.splitlines()[0]
    return " ".join(text.split())


def _statement(
    node: ast.stmt, holder: ast.AST, field: str, index: int, scope: _Scope
) -> Iterator[Site]:
    """The changes of one statement and its nested statements."""
    if _untouched(node):
        return
    if _removable(node):
        yield Site("statement", node, scope.name, holder, field, index, ast.Pass())
    if isinstance(node, ast.Return) and node.value is not None:
        new = _returned(node.value, scope.returns)
        if new is not None and ast.unparse(new) != ast.unparse(node.value):
            yield Site("return", node, scope.name, node, "value", None, new)
    yield from _below(node, node, scope)


def _returned(value: ast.expr, annotation: str) -> ast.expr | None:
    """A different value of the same type if there is an obvious one, else None. Comparisons and
    Boolean constants have other changes."""
    if annotation == "bool":
        own = isinstance(value, ast.Constant | ast.Compare | ast.BoolOp | ast.UnaryOp)
        return None if own else ast.UnaryOp(ast.Not(), value)
    empty = _EMPTY.get(annotation.partition("[")[0])
    if empty is None or " | " in annotation:
        return ast.Constant(None)
    return ast.parse(empty, mode="eval").body


def _below(node: ast.AST, statement: ast.AST, scope: _Scope) -> Iterator[Site]:
    inside = scope.inside(node)
    for field, value in ast.iter_fields(node):
        if field in _UNTOUCHED:
            continue
        several = isinstance(value, list)
        for index, child in enumerate(value if several else [value]):
            if isinstance(child, ast.stmt):
                yield from _statement(child, node, field, index, inside)
            elif isinstance(child, ast.match_case):
                yield from _below(child, child, inside)
            elif isinstance(child, ast.AST):
                for kind, new in _changes(child, field):
                    place = index if several else None
                    yield Site(kind, statement, inside.name, node, field, place, new)
                yield from _below(child, statement, inside)


def _untouched(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal | ast.Pass):
        return True
    if isinstance(node, ast.Assign):
        return any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    if isinstance(node, ast.Expr):
        value = node.value
        return isinstance(value, ast.Constant) or (isinstance(value, ast.Call) and _logs(value))
    return False


def _logs(call: ast.Call) -> bool:
    root = call.func
    while isinstance(root, ast.Attribute):
        root = root.value
    return isinstance(root, ast.Name) and root.id in _LOGGERS


def _removable(node: ast.stmt) -> bool:
    """Whether to remove the statement: calls, mutations, augmented assignments, loop exits, returns and
    guards. Without an ordinary assignment the next line would fail, which is not a useful mutant."""
    if isinstance(node, ast.Assign):
        return not all(isinstance(target, ast.Name) for target in node.targets)
    if isinstance(node, ast.If):
        return not node.orelse and isinstance(node.body[-1], _ENDS)
    if isinstance(node, ast.Return):
        return node.value is None
    return isinstance(
        node, ast.Expr | ast.AugAssign | ast.Raise | ast.Continue | ast.Break | ast.Delete
    )


def _changes(node: ast.AST, field: str) -> Iterator[tuple[str, ast.AST]]:
    """Every change of this expression itself."""
    if isinstance(node, ast.Compare):
        yield from _compared(node)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "boolean", ast.BoolOp(other, node.values)
        for index in range(len(node.values)):
            rest = [*node.values[:index], *node.values[index + 1 :]]
            yield "boolean", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "boolean", node.operand
    elif isinstance(node, ast.Constant):
        yield from _constant(node.value)
    elif isinstance(node, ast.expr) and field in ("test", "ifs", "guard"):
        yield "boolean", ast.UnaryOp(ast.Not(), node)


def _compared(node: ast.Compare) -> Iterator[tuple[str, ast.AST]]:
    for index, op in enumerate(node.ops):
        for kind, table in (("comparison", _NEGATED), ("boundary", _SHIFTED)):
            if other := table.get(type(op)):
                ops = [*node.ops[:index], other(), *node.ops[index + 1 :]]
                yield kind, ast.Compare(node.left, ops, node.comparators)


def _constant(value: object) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(value, bool):
        yield "boolean", ast.Constant(not value)
    elif isinstance(value, int | float):
        yield "number", ast.Constant(value + 1)
        if value:
            yield "number", ast.Constant(value * 2)
    elif isinstance(value, str):
        yield "text", ast.Constant(value + "x" if value else "x")
        if value:
            yield "text", ast.Constant("")
