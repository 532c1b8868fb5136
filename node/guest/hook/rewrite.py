"""Turns every `for` and `while` of a user's module into one that can be stopped at, and entered again, at its head.

    for T in X: BODY            h = None is set in a `finally`, so `h` is not None exactly while the loop runs:
    try:
        for T in (h := __shoal_iter__(X, 7)):
            if __shoal_due__: __shoal_head__(7)
            __shoal_tick__()
            BODY
    finally: h = None

    while C: BODY               `h` is 1 where a restored job has to enter the body without asking C again:
    try:
        h = __shoal_while__(7)
        while h or C: ...
    finally: h = None

Lines and columns stay those of the source. A round costs a look at a built-in name and a counter; the innermost plain
loops, which call nothing, have no counter.
"""

from __future__ import annotations

import ast
import copy
from typing import TypeVar, Union

PREFIX = "__shoal_h"
SUFFIX = "__"
"""Names of this form are never mangled inside a class."""

Loop = Union[ast.For, ast.While]
Node = TypeVar("Node", bound=ast.AST)


def hidden(index: int) -> str:
    """The name under which a frame holds the state of loop `index` of its module."""
    return PREFIX + str(index) + SUFFIX


def index_of(name: str) -> int:
    """The inverse of `hidden`; -1 for any other name."""
    digits = name[len(PREFIX) : -len(SUFFIX)]
    return int(digits) if name.startswith(PREFIX) and name.endswith(SUFFIX) and digits.isdigit() else -1


def rewrite(source: bytes | str, path: str, *, is_main: bool = False) -> ast.Module:
    """The tree of a module with resumable loops. Raises SyntaxError like `compile`."""
    tree = ast.parse(source, path)
    writer = _Writer()
    tree.body = writer.block(tree.body, "module", 0)
    start = _prologue_at(tree.body)
    first: list[ast.stmt] = []
    if is_main:
        first += ast.parse("__shoal_main__()").body
    if writer.module_loops:  # Named before the first round: a loop over globals() must not see its size change.
        targets: list[ast.expr] = [ast.Name(hidden(index), ast.Store()) for index in writer.module_loops]
        first.append(ast.Assign(targets, ast.Constant(None)))
    for statement in first:
        _place(statement, tree.body[start] if start < len(tree.body) else None)
    tree.body[start:start] = first
    return tree


def _prologue_at(body: list[ast.stmt]) -> int:
    """Behind the docstring and the imports from __future__."""
    at = 0
    for at, statement in enumerate(body):
        is_text = at == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not is_text and not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
            return at
    return len(body)


def _place(node: Node, at: ast.stmt | None) -> Node:
    """Give every part of `node` the position of `at`."""
    for part in ast.walk(node):
        if isinstance(part, (ast.stmt, ast.expr)):
            part.lineno = part.end_lineno = at.lineno if at else 1
            part.col_offset = part.end_col_offset = at.col_offset if at else 0
    return node


class _Writer:
    """Walks blocks of statements; counts loops in source order, so that an outer loop has the smaller number."""

    def __init__(self) -> None:
        self.count = 0
        self.module_loops: list[int] = []

    def block(self, body: list[ast.stmt], scope: str, depth: int) -> list[ast.stmt]:
        return [self.statement(statement, scope, depth) for statement in body]

    def statement(self, node: ast.stmt, scope: str, depth: int) -> ast.stmt:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = self.block(node.body, "function", 0)
            return node
        if isinstance(node, ast.ClassDef):
            node.body = self.block(node.body, "class", 0)
            return node
        if isinstance(node, (ast.For, ast.While)) and scope != "class":
            return self.loop(node, scope, depth)
        for part in [node, *getattr(node, "handlers", ()), *getattr(node, "cases", ())]:
            for field in ("body", "orelse", "finalbody"):
                below = getattr(part, field, None)
                if isinstance(below, list) and below and isinstance(below[0], ast.stmt):
                    setattr(part, field, self.block(below, scope, depth))
        return node

    def loop(self, node: Loop, scope: str, depth: int) -> ast.stmt:
        index, self.count = self.count, self.count + 1
        if scope == "module":
            self.module_loops.append(index)
        is_light = depth > 0 and _is_light(node)
        node.body = self.block(node.body, scope, depth + 1)
        node.orelse = self.block(node.orelse, scope, depth)
        name = hidden(index)
        assigns = "%s = " % name if isinstance(node, ast.While) else ""
        lines = "if __shoal_due__: %s__shoal_head__(%d)\n" % (assigns, index)
        if not is_light:
            lines += "__shoal_tick__()\n"
        head = [_place(statement, node) for statement in ast.parse(lines).body]
        node.body[:0] = head
        ended: ast.stmt = _place(ast.parse("%s = None" % name).body[0], node)
        if node.orelse:
            node.orelse.insert(0, copy.deepcopy(ended))
        before: list[ast.stmt] = []
        if isinstance(node, ast.For):
            node.iter = _wrapped(node.iter, name, index)
        else:
            before = [_place(ast.parse("%s = __shoal_while__(%d)" % (name, index)).body[0], node)]
            active = ast.copy_location(ast.Name(name, ast.Load()), node.test)
            node.test = ast.copy_location(ast.BoolOp(ast.Or(), [active, node.test]), node.test)
        guarded = ast.Try([*before, node], [], [], [ended])
        return ast.copy_location(guarded, node)


def _wrapped(iterable: ast.expr, name: str, index: int) -> ast.expr:
    """`(h := __shoal_iter__(X, 7))`."""
    call = ast.Call(ast.Name("__shoal_iter__", ast.Load()), [iterable, ast.Constant(index)], [])
    wrapped = ast.NamedExpr(ast.Name(name, ast.Store()), call)
    for part in (wrapped, wrapped.target, call, call.func, call.args[1]):
        ast.copy_location(part, iterable)
    return wrapped


def _is_light(node: Loop) -> bool:
    """Whether an inner loop does plain arithmetic only: nothing of its rounds is worth counting."""
    heavy = (ast.Call, ast.For, ast.While, ast.With, ast.Await, ast.Yield, ast.YieldFrom, ast.ListComp, ast.MatMult)
    return not any(isinstance(part, heavy) for statement in node.body for part in ast.walk(statement))
