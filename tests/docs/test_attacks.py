"""docs/attacks.md lists every attack of the suite, and the suite has all of them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from docs import write_attacks

FOUND = list(write_attacks.attacks())


def test_every_attack_has_a_test() -> None:
    assert sorted({number for number, _, _ in FOUND}) == list(range(1, write_attacks.ATTACKS + 1))


def test_the_page_is_written_from_the_tests() -> None:
    old = write_attacks.PAGE.read_text(encoding="utf-8")
    assert old == write_attacks.page(old), "run `python docs/write_attacks.py`"


@pytest.mark.parametrize("path", [path for _, _, path in FOUND], ids=lambda path: path.stem)
def test_an_attack_is_tried_more_than_once_and_asserts(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    named = [node for node in tests if node.name.startswith("test_")]
    assert len(named) >= 2, "the attack, and its honest twin"
    checks = sum(
        isinstance(node, ast.Assert | ast.Raise) or "raises" in ast.dump(node)[:200] for node in ast.walk(tree)
    )
    assert checks >= len(named)
