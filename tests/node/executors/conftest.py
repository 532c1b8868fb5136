"""The sandboxes of this host for tests, with a skip and its reason where a tier cannot be used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from node.blobs import BlobStore
from node.executors.bwrap import BwrapExecutor
from node.executors.interface import Executor
from node.executors.ladder import ladder
from node.executors.wasm import engine_digest
from node.runner import Runner
from node.runtimes import Runtime, discover
from tests.node.executors.bench import IN_USER_NAMESPACE, OWNER, Bench, BenchOf


def executors(images: Path) -> dict[str, Executor]:
    """Every tier by name, and bwrap as it runs without root."""
    label = f"test-{os.getpid()}"
    found: dict[str, Executor] = {executor.tier: executor for executor in ladder(label, images)}
    return {**found, IN_USER_NAMESPACE: BwrapExecutor(label, is_root=False)}


@pytest.fixture(scope="session")
def runtimes() -> dict[str, Runtime]:
    return discover({}, engine_digest())


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="session")
def causes(images: Path) -> Mapping[str, str]:
    """Why a tier cannot be used here, by name; empty where it can."""
    return {name: trio.run(executor.why_not) for name, executor in executors(images).items()}


@pytest.fixture(autouse=True)
def skip_without_its_tier(request: pytest.FixtureRequest) -> None:
    """Outside of trio, so that the reason is shown as it is."""
    if "bench_of" not in request.fixturenames:
        return
    wanted = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    tier = str(wanted.get("tier") or wanted.get("bench") or "bwrap")
    if cause := request.getfixturevalue("causes")[tier]:
        pytest.skip(f"tier {tier} cannot be used here: {cause}")


@pytest.fixture
def bench_of(tmp_path: Path, images: Path, runtimes: dict[str, Runtime]) -> BenchOf:
    async def build(tier: str) -> Bench:
        executor = executors(images)[tier]
        await executor.why_not()
        blobs = BlobStore(tmp_path / "blobs", 1 << 30)
        runner = Runner(blobs, tmp_path / "tasks", [executor], runtimes, serves=[OWNER])
        await runner.clean()
        return Bench(blobs, tmp_path, runner)

    return build
