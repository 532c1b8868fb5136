"""Executable specifications: numbered markdown whose tables and Python blocks the tests run against the code.

A row of a table that opens with `| NAME | value |` is a constant. Every fenced `python` block is compiled under the
document's own file name and line numbers, with the constants in scope, so a traceback points into the document.
"""

from __future__ import annotations

import ast
import operator
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Value = int | float | str
Row = dict[str, str]

FOLDER: Final = Path(__file__).parent
ARITHMETIC: Final[dict[type[ast.operator], Callable[[int | float, int | float], int | float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
"""What a value cell may compute: `60 * SECOND` reads better than its product."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One document, loaded."""

    path: Path
    constants: Mapping[str, Value]
    """From every table whose first two columns are NAME and value."""
    functions: Mapping[str, Callable[..., object]]
    """Every function and class that the Python blocks define, by name."""
    tables: tuple[tuple[str, tuple[Row, ...]], ...]
    """(nearest heading above, rows); a row maps column titles to cells. Titles and headings are lower case."""

    def table(self, heading: str) -> tuple[Row, ...]:
        """The first table below `heading`. Raises KeyError naming the headings that have one."""
        for title, rows in self.tables:
            if title == heading.lower():
                return rows
        raise KeyError(f"{self.path.name} has no table below a heading {heading!r}, only {[t for t, _ in self.tables]}")


def load(name: str, folder: Path = FOLDER) -> Spec:
    """Load `specs/<name>.md`. Raises FileNotFoundError, SyntaxError (with the document's line), ValueError (cells)."""
    path = folder / f"{name}.md"
    lines = path.read_text(encoding="utf-8").splitlines()
    blocks, prose = _split(lines)
    tables = _tables(prose, path)
    constants = _constants(tables)
    scope: dict[str, object] = {"__name__": __name__, **constants}
    for first_line, source in blocks:
        exec(compile("\n" * first_line + source, str(path), "exec"), scope)
    defined = {k: v for k, v in scope.items() if isinstance(v, types.FunctionType | type) and _is_own(v)}
    return Spec(path, types.MappingProxyType(constants), types.MappingProxyType(defined), tables)


def names(folder: Path = FOLDER) -> list[str]:
    """The names of all numbered documents, in order."""
    return sorted(path.stem for path in folder.glob("[0-9][0-9]-*.md"))


def _is_own(value: types.FunctionType | type) -> bool:
    """Whether a block defined it, rather than imported it."""
    return value.__module__ == __name__


def _split(lines: list[str]) -> tuple[list[tuple[int, str]], list[str]]:
    """(Python blocks with the number of lines above each, the lines with every fenced block blanked)."""
    blocks: list[tuple[int, str]] = []
    prose: list[str] = []
    fence: str | None = None
    start = 0
    for number, line in enumerate(lines):
        if fence is None and line.startswith("```"):
            fence, start = line[3:].strip(), number + 1
        elif fence is not None and line.startswith("```"):
            if fence == "python":
                blocks.append((start, "\n".join(lines[start:number])))
            fence = None
        prose.append("" if fence is not None or line.startswith("```") else line)
    return blocks, prose


def _tables(prose: list[str], path: Path) -> tuple[tuple[str, tuple[Row, ...]], ...]:
    found: list[tuple[str, tuple[Row, ...]]] = []
    heading, titles, rows = "", list[str](), list[Row]()
    for number, line in enumerate([*prose, ""], start=1):
        if line.startswith("|"):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
            if not titles:
                titles = [cell.lower() for cell in cells]
            elif len(cells) != len(titles):
                raise ValueError(f"{path.name}:{number}: {len(cells)} cells in a table of {len(titles)} columns")
            elif not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                rows.append(dict(zip(titles, cells, strict=True)))
        else:
            if titles:
                found.append((heading, tuple(rows)))
                titles, rows = [], []
            if line.startswith("#"):
                heading = line.lstrip("#").strip().replace("`", "").lower()
    return tuple(found)


def _constants(tables: tuple[tuple[str, tuple[Row, ...]], ...]) -> dict[str, Value]:
    constants: dict[str, Value] = {}
    for _, rows in tables:
        for row in rows:
            if list(row)[:2] == ["name", "value"]:
                name = row["name"].strip("`")
                if name in constants:
                    raise ValueError(f"{name} is defined twice")
                constants[name] = _value(row["value"].strip("`"), constants)
    return constants


def _value(cell: str, known: Mapping[str, Value]) -> Value:
    """A number, arithmetic over numbers and earlier constants, a number with a unit after it, or else the text."""
    if with_unit := re.fullmatch(r"(-?\d[\d_]*)`? [A-Za-zµ/%]+", cell):
        return int(with_unit[1])
    try:
        return _compute(ast.parse(cell, mode="eval").body, known)
    except (SyntaxError, ValueError):
        return cell


def _compute(tree: ast.expr, known: Mapping[str, Value]) -> Value:
    match tree:
        case ast.Constant(value=int() | float() | str() as value):
            return value
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            a, b = _compute(left, known), _compute(right, known)
            if isinstance(a, int | float) and isinstance(b, int | float):
                return ARITHMETIC[type(op)](a, b)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            a = _compute(operand, known)
            if isinstance(a, int | float):
                return -a
    raise ValueError(f"{ast.unparse(tree)} is not a constant expression")
