"""Writes the table of docs/attacks.md from the tests of tests/adversarial: `python docs/write_attacks.py`."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
SUITE: Final = ROOT / "tests" / "adversarial"
PAGE: Final = ROOT / "docs" / "attacks.md"

ATTACKS: Final = 55
"""Of the list that the suite goes through."""

LIVED: Final = frozenset({19, *range(25, 34), 38, 39, 40})
"""Attacks on money, which are besides lived a thousand times each (docs/economics.md)."""

ABOVE: Final = "| # | attack | test | lived |\n| --- | --- | --- | --- |\n"
FIRST: Final = re.compile(r"Attack (\d\d): (.+)")


def attacks() -> Iterator[tuple[int, str, Path]]:
    """(number, the attack in words, its test) in order, from the first line of each file."""
    for path in sorted(SUITE.glob("test_[0-9][0-9]_*.py")):
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found = FIRST.match(said.splitlines()[0] if said else "")
        if found is None or found.group(1) != path.name[5:7]:
            raise SystemExit(f"{path.name} does not begin with 'Attack {path.name[5:7]}: '")
        yield int(found.group(1)), found.group(2).rstrip("."), path


def table() -> str:
    """The rows."""
    rows = []
    for number, text, path in attacks():
        lived = "[yes](economics.md)" if number in LIVED else ""
        rows.append(
            f"| {number} | {text} | [{path.stem[8:].replace('_', ' ')}](../{path.relative_to(ROOT)}) | {lived} |"
        )
    return ABOVE + "\n".join(rows) + "\n"


def page(old: str) -> str:
    """The page with its table as it should be."""
    before, _, rest = old.partition(ABOVE)
    after = re.sub(r"\A(\|.*\n)*", "", rest)
    return before + table() + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
