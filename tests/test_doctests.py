"""Every example in a docstring of the pure folders, and in the documents, does what it says."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
MODULES: Final = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for folder in ("protocol", "verifier", "storage")
    for path in (ROOT / folder).glob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
DOCUMENTS: Final = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (".", "docs", "specs")
    for path in (ROOT / folder).glob("*.md")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted
    assert not outcome.failed


@pytest.mark.parametrize("name", DOCUMENTS)
def test_examples_in_documents(name: str) -> None:
    outcome = doctest.testfile(str(ROOT / name), module_relative=False, encoding="utf-8")
    assert outcome.attempted
    assert not outcome.failed
