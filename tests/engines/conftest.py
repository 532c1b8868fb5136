"""The interpreter with Blender and OpenMM, where `make engines` has prepared it, and a runner that has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from node.executors.wasm import engine_digest
from node.runtimes import Runtime, discover
from tests.node.proving.bench import Bench

ROOT: Final = Path(__file__).parents[2]
ENGINES: Final = ROOT / ".venv-engines" / "bin" / "python"


def why_not(module: str) -> str:
    """Why an engine cannot be used here; empty when it can."""
    if not ENGINES.exists():
        return "no .venv-engines: run `make engines`"
    done = subprocess.run([ENGINES, "-c", f"import {module}"], capture_output=True, text=True, timeout=300)
    return f"{module} does not load: {done.stderr.strip()[-200:]}" if done.returncode else ""


@pytest.fixture(scope="session")
def cycles() -> Path:
    """An interpreter with Blender."""
    if why := why_not("bpy"):
        pytest.skip(why)
    return ENGINES


@pytest.fixture(scope="session")
def dynamics() -> Path:
    """An interpreter with OpenMM."""
    if why := why_not("openmm"):
        pytest.skip(why)
    return ENGINES


@pytest.fixture(scope="session")
def runtimes() -> dict[str, Runtime]:
    """`engines` where they are prepared, and `torch`, which is any interpreter with NumPy here."""
    configured = {"torch": Path(sys.executable)}
    if ENGINES.exists():
        configured["engines"] = ENGINES
    return discover(configured, engine_digest())


@pytest.fixture
def bench(tmp_path: Path, runtimes: dict[str, Runtime]) -> Bench:
    return Bench(tmp_path, runtimes)


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package `shoal_work`, as a sandbox has it."""
    folder = tmp_path_factory.mktemp("guest")
    package = folder / "shoal_work"
    package.mkdir()
    for module in (ROOT / "node" / "guest" / "work").glob("*.py"):
        (package / module.name).write_bytes(module.read_bytes())
    (package / "__init__.py").write_bytes((package / "face.py").read_bytes())
    return folder
