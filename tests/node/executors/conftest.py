"""The sandboxes of this host for tests, with a skip and its reason where a tier cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from node.blobs import BlobStore
from node.executors.bwrap import BwrapExecutor
from node.executors.ladder import ladder
from node.executors.wasm import engine_digest
from node.runner import Runner
from node.runtimes import Runtime, discover
from tests.node.executors.bench import OWNER, Bench, BenchOf


@pytest.fixture(scope="session")
def runtimes() -> dict[str, Runtime]:
    return discover({}, engine_digest())


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture
def bench_of(tmp_path: Path, images: Path, runtimes: dict[str, Runtime]) -> BenchOf:
    async def build(tier: str) -> Bench:
        label = f"test-{os.getpid()}"
        executors = {executor.tier: executor for executor in ladder(label, images)}
        executors["bwrap in a user namespace"] = BwrapExecutor(label, is_root=False)
        if cause := await executors[tier].why_not():
            pytest.skip(f"tier {tier} cannot be used here: {cause}")
        blobs = BlobStore(tmp_path / "blobs", 1 << 30)
        runner = Runner(blobs, tmp_path / "tasks", [executors[tier]], runtimes, serves=[OWNER])
        await runner.clean()
        return Bench(blobs, tmp_path, runner)

    return build
