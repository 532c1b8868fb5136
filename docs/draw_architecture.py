"""Draws docs/images/architecture.svg from the code: the folders by layer, their modules, and who really imports whom.

The rows are the layers of pyproject.toml's import contract; boxes and arrows are read from the files. Run it with
`make picture`; tests/test_docs.py fails while the committed picture is not the code's.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Final

ROOT: Final = Path(__file__).parent.parent
TARGET: Final = ROOT / "docs" / "images" / "architecture.svg"

PAGE_WIDTH: Final = 960
MARGIN: Final = 24
GAP_X: Final = 40
GAP_Y: Final = 56
LINE_HEIGHT: Final = 16
TITLE_HEIGHT: Final = 46
CHARACTER_WIDTH: Final = 6.7
"""Of the module list's 11 px monospace, with room to spare for fonts that run wider."""

COLOURS: Final = ("#e8eefc", "#e6f4ea", "#fef3e0", "#fdeaea", "#f1eafc")
STYLE: Final = """
text { font-family: system-ui, sans-serif; fill: #1b2330 }
.name { font-size: 17px; font-weight: 600 }
.what { font-size: 12px; fill: #47546b }
.modules { font-family: ui-monospace, monospace; font-size: 11px }
.uses { font-size: 11px; fill: #7a4b00 }
.box { stroke: #8794ab; stroke-width: 1.2 }
.empty { stroke-dasharray: 5 4; fill: #fafafa }
.arrow { stroke: #5b6b86; stroke-width: 1.4; fill: none; marker-end: url(#head) }
"""


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder of the application, as its files describe it."""

    name: str
    what: str
    """The first sentence of the package's docstring."""
    modules: tuple[str, ...]
    imports: tuple[str, ...]
    """Our other folders that its files import."""
    uses: tuple[str, ...]
    """Top-level names of foreign packages that its files import."""


@dataclass(frozen=True, slots=True)
class Box:
    """A folder with its place on the page, in pixels."""

    folder: Folder
    lines: tuple[str, ...]
    x: float
    y: float
    width: float
    height: float


def layers() -> list[list[str]]:
    """The rows, top to bottom, from the import contract."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    rows = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [row.split(" | ") for row in rows]


def read_folder(name: str, ours: set[str]) -> Folder:
    paths = sorted(path for path in (ROOT / name).rglob("*.py") if "__pycache__" not in path.parts)
    modules = [path.relative_to(ROOT / name).with_suffix("").as_posix() for path in paths]
    docstring = ast.get_docstring(ast.parse((ROOT / name / "__init__.py").read_text(encoding="utf-8"))) or ""
    imported = {top for path in paths for top in imports_of(path)}
    return Folder(
        name=name,
        what=docstring.split(". ")[0].rstrip("."),
        modules=tuple(sorted(module for module in modules if not module.endswith("__init__"))),
        imports=tuple(sorted((imported & ours) - {name})),
        uses=tuple(sorted(imported - ours - set(sys.stdlib_module_names))),
    )


def imports_of(path: Path) -> Iterator[str]:
    """The top-level name of everything that a file imports, also inside functions."""
    for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(item, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in item.names)
        elif isinstance(item, ast.ImportFrom) and item.module and not item.level:
            yield item.module.partition(".")[0]


def place(rows: list[list[Folder]]) -> list[Box]:
    boxes: list[Box] = []
    y = float(MARGIN)
    for row in rows:
        width = (PAGE_WIDTH - 2 * MARGIN - GAP_X * (len(row) - 1)) / len(row)
        texts = [describe(folder, int((width - 28) / CHARACTER_WIDTH)) for folder in row]
        height = TITLE_HEIGHT + LINE_HEIGHT * max(len(text) for text in texts) + 12
        for column, (folder, text) in enumerate(zip(row, texts, strict=True)):
            boxes.append(Box(folder, tuple(text), MARGIN + column * (width + GAP_X), y, width, height))
        y += height + GAP_Y
    return boxes


def describe(folder: Folder, columns: int) -> list[str]:
    lines = wrap("  ".join(folder.modules), columns, break_on_hyphens=False)
    uses = wrap("uses " + ", ".join(folder.uses), columns, initial_indent="\0", subsequent_indent="\0")
    return lines + (uses if folder.uses else [])


def draw_box(box: Box, colour: str) -> str:
    kind = "box" if box.folder.modules else "box empty"
    fill = f' fill="{colour}"' if box.folder.modules else ""
    tall = f'height="{box.height:.1f}"'
    x, y = box.x + 14, box.y + 20
    parts = [
        f'<rect class="{kind}"{fill} x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" {tall} rx="8"/>',
        f'<text class="name" x="{x:.1f}" y="{y + 3:.1f}">{escape(box.folder.name)}/</text>',
        f'<text class="what" x="{x:.1f}" y="{y + 20:.1f}">{escape(box.folder.what)}</text>',
    ]
    for number, line in enumerate(box.lines or ("empty in this release",)):
        style, below = ("uses" if line.startswith("\0") else "modules"), y + 40 + LINE_HEIGHT * number
        parts.append(f'<text class="{style}" x="{x:.1f}" y="{below:.1f}">{escape(line.lstrip(chr(0)))}</text>')
    return "\n".join(parts)


def draw_arrows(boxes: list[Box]) -> str:
    """From each importer to what it imports, leaving out an import that a chain of others already shows."""
    graph = {box.folder.name: set(box.folder.imports) for box in boxes}
    place_of = {box.folder.name: box for box in boxes}
    parts: list[str] = []
    for name, imports in graph.items():
        implied = {deep for one in imports for deep in reachable(graph, one)}
        for target in sorted(imports - implied):
            start, end = place_of[name], place_of[target]
            x1, y1 = start.x + start.width / 2, start.y + start.height
            x2, y2 = end.x + end.width / 2, end.y
            if start.width > end.width:
                x1 = x2
            elif start.width < end.width:
                x2 = x1
            middle = (y1 + y2) / 2
            parts.append(f'<path class="arrow" d="M{x1:.1f} {y1:.1f} C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} '
                         f'{x2:.1f} {y2 - 3:.1f}"><title>{name} imports {target}</title></path>')  # fmt: skip
    return "\n".join(parts)


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Every folder below `start`, itself left out."""
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(graph[name])
    return found


def picture() -> str:
    """The whole SVG, the same text for the same code."""
    names = layers()
    ours = {name for row in names for name in row}
    boxes = place([[read_folder(name, ours) for name in row] for row in names])
    rows = sorted({box.y for box in boxes})
    height = max(box.y + box.height for box in boxes) + MARGIN
    body = "\n".join(draw_box(box, COLOURS[rows.index(box.y) % len(COLOURS)]) for box in boxes)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PAGE_WIDTH} {height:.0f}" role="img">
<title>The folders of Shoal by layer; an arrow means: imports</title>
<style>{STYLE}</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 L8 4 L0 8 z" fill="#5b6b86"/></marker></defs>
<rect width="{PAGE_WIDTH}" height="{height:.0f}" fill="#ffffff"/>
{draw_arrows(boxes)}
{body}
</svg>
"""


if __name__ == "__main__":
    TARGET.write_text(picture(), encoding="utf-8")
    print(f"drew {TARGET.relative_to(ROOT)}")
