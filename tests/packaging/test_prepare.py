"""packaging/prepare.py: what a newcomer reads when something is missing, and the locks that it installs."""

from __future__ import annotations

import re
import runpy
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parent.parent.parent
SCRIPT: Final = runpy.run_path(str(ROOT / "packaging" / "prepare.py"))
main: Final[Callable[[Path, Path], int]] = SCRIPT["main"]


def pins(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", text, re.MULTILINE))


def test_an_old_python_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert main(ROOT / "nowhere", ROOT / "requirements.lock") == 1
    said = capsys.readouterr().err
    assert "Python 3.9.2" in said
    assert "is too old: install Python 3.11 or newer" in said


def test_a_python_without_venv_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    assert main(ROOT / "nowhere", ROOT / "requirements.lock") == 1
    assert "apt-get install python3-venv" in capsys.readouterr().err


def test_an_environment_is_made_and_a_failure_in_it_shows_pips_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One after the other in one environment: making it takes seconds."""
    bad, empty = tmp_path / "bad.lock", tmp_path / "empty.lock"
    bad.write_text("this is no requirement\n")
    assert main(tmp_path / "venv", bad) != 0
    said = capfd.readouterr()
    assert "making a virtual environment" in said.out
    assert "Invalid requirement" in said.err
    assert "could not install" in said.err
    assert not list((tmp_path / "venv").glob(".ready-*"))

    empty.write_text("# nothing\n")
    assert main(tmp_path / "venv", empty) == 0
    assert (tmp_path / "venv" / ".ready-empty.lock").exists()
    said = capfd.readouterr()
    assert "venv: ready after" in said.out and "making a virtual environment" not in said.out


def test_the_lock_pins_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pinned = pins("requirements.lock")
    for text in [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]:
        wanted = Requirement(text)
        found = pinned.get(canonicalize_name(wanted.name))
        assert found, f"requirements.lock lacks {text}"
        assert wanted.specifier.contains(found), f"requirements.lock pins {wanted.name} {found}, wanted {text}"


def test_the_node_never_needs_torch() -> None:
    assert not {"torch", "scikit-learn", "safetensors"} & set(pins("requirements.lock"))
    jobs = pins("requirements-jobs.lock")
    assert jobs["torch"] == "2.13.0"
    assert {"scikit-learn", "safetensors", "numpy"} <= set(jobs)


def test_everything_in_the_lock_is_pinned_by_hash() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) > 100
    assert not [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]
