"""The package as a sandbox sees it: Python 3.9, NumPy, and nothing of the node."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from node.proving.program import GUEST, PACKAGE, _lay_guest

FOLDER: Final = Path(__file__).parents[4] / "node" / "guest" / "work"
MODULES: Final = sorted(path for path in FOLDER.glob("*.py") if path.name != "__init__.py")


def imported(tree: ast.AST) -> set[str]:
    """Top-level names that are imported anywhere, functions included; relative ones left out."""
    found: set[str] = set()
    for item in ast.walk(tree):
        if isinstance(item, ast.Import):
            found |= {name.name.split(".")[0] for name in item.names}
        elif isinstance(item, ast.ImportFrom) and not item.level:
            found.add((item.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_module_is_python_39_and_needs_numpy_at_most(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    outside = imported(tree) - sys.stdlib_module_names - {"numpy"}
    assert not outside & {"node", "protocol", "verifier", "storage", "shoal"}
    at_once = imported(
        ast.Module([item for item in tree.body if not isinstance(item, ast.ClassDef | ast.FunctionDef)], [])
    )
    assert "torch" not in at_once and outside <= {"torch", "safetensors", "bpy", "openmm"}


def test_the_face_is_the_package_and_its_modules_are_beside_it(tmp_path: Path) -> None:
    assert GUEST.replace(".", "/") == "node/guest/work"
    _lay_guest(tmp_path / PACKAGE)
    assert {path.name for path in (tmp_path / PACKAGE).iterdir()} == {
        "__init__.py", *(path.name for path in MODULES if path.name != "face.py"),
    }  # fmt: skip
    code = "import sys, shoal_work; assert 'torch' not in sys.modules; print(sorted(shoal_work.__all__))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(["Aux", "Dice", "Malformed", "State", "Work", "decode", "encode", "run"])
