"""What tests of unit jobs share."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from node.executors.wasm import engine_digest
from node.runtimes import Runtime, discover
from tests.node.proving.bench import Bench


@pytest.fixture(scope="session")
def numpy_runtimes() -> dict[str, Runtime]:
    """`torch` is any interpreter with NumPy here: unit programs need no more."""
    return discover({"torch": Path(sys.executable)}, engine_digest())


@pytest.fixture
def bench(tmp_path: Path, numpy_runtimes: dict[str, Runtime]) -> Bench:
    return Bench(tmp_path, numpy_runtimes)


class Folder:
    """An empty folder for one example of a property."""

    def __enter__(self) -> Path:
        self._made = tempfile.TemporaryDirectory()
        return Path(self._made.name)

    def __exit__(self, *_: object) -> None:
        self._made.cleanup()
