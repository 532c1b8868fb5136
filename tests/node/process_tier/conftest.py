"""One workshop a session; a skip with the reason where this host cannot do it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tests.node.process_tier.workshop import Workshop, build_workshop, compiled
from tests.node.waiting import SECONDS

TIERS = ("runc", "bwrap")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "images").mkdir()
    return build_workshop(folder, folder / "images")


@pytest.fixture(scope="session")
def causes(built: Workshop) -> dict[str, str]:
    """Why a sandbox cannot be used here, empty where it can."""
    return {name: built.tier().why_not() or trio.run(built.executor(name).why_not) for name in TIERS}


@pytest.fixture(scope="session")
def c_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("c")) if shutil.which("gcc") else Path("/bin/false")


@pytest.fixture(autouse=True)
def skip_without_criu(request: pytest.FixtureRequest) -> None:
    """Outside of trio, so that the reason is shown as it is."""
    if "workshop" not in request.fixturenames:
        return
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if cause := request.getfixturevalue("causes")[params.get("name", "bwrap")]:
        pytest.skip(f"no process snapshots here: {cause}")


@pytest.fixture
def workshop(built: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setattr("node.process_tier.tier.DUMP_SECONDS", SECONDS)  # No dump fails because this machine is slow.
    return replace(built, folder=tmp_path)
