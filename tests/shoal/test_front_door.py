"""`python -m shoal`: it opens its own application directory, wherever it is started, and no other process does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent.parent


def start(folder: Path, *flags: str, site: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *flags, "-m", "shoal"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A site-packages folder laid out like the wheel, around the real front door."""
    site = tmp_path / "site"
    app = site / "shoal" / "_app" / "protocol"
    app.mkdir(parents=True)
    app.joinpath("__init__.py").write_text('"""Ours."""\n')
    for name in ("__init__.py", "__main__.py"):
        shutil.copy(ROOT / "shoal" / name, site / "shoal" / name)
    cli = "import protocol\n\ndef main() -> int:\n    print(protocol.__doc__)\n    return 7\n"
    (site / "shoal" / "cli.py").write_text(cli)
    return site


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A user's folder with a `protocol/` of its own."""
    theirs = tmp_path / "elsewhere" / "protocol"
    theirs.mkdir(parents=True)
    theirs.joinpath("__init__.py").write_text('"""Theirs."""\n')
    return theirs.parent


def test_a_users_own_folders_shadow_nothing(installed: Path, elsewhere: Path) -> None:
    done = start(elsewhere, site=installed)
    assert (done.stdout, done.returncode) == ("Ours.\n", 7), done.stderr


def test_nothing_of_ours_shadows_theirs(installed: Path, elsewhere: Path) -> None:
    command = [sys.executable, "-c", "import shoal, protocol; print(protocol.__doc__)"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "Theirs.\n", done.stderr


def test_it_refuses_to_run_without_its_assertions(tmp_path: Path) -> None:
    done = start(tmp_path, "-O")
    assert done.returncode == 2
    assert "without -O and PYTHONOPTIMIZE" in done.stderr
