"""A container ends with its node, even with one that had no time to say so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import trio

from node.executors.runc import RuncExecutor
from tests.node.waiting import happens

NODE = """
import sys
from pathlib import Path

import trio

from node.blobs import BlobStore
from node.executors.runc import RuncExecutor
from node.executors.wasm import engine_digest
from node.runner import Runner
from node.runtimes import discover
from protocol.effects import Run
from protocol.jobspec import Chunk, JobSpec, Resources
from protocol.units import PeerId

async def main(folder, mark):
    executor = RuncExecutor("killed-node-" + mark, folder / "images")
    owner = PeerId(bytes(32))
    runner = Runner(BlobStore(folder / "blobs", 1 << 30), folder / "tasks", [executor], discover({}, engine_digest()))
    await runner.clean()
    spec = JobSpec(name="t", runtime="python", commands=("echo started; sleep " + mark,), chunks=(Chunk(),))
    await runner.run(Run("job/0/1", spec, 0, (), (), owner), lambda lines: print(*lines, flush=True), lambda tier: None)

trio.run(main, Path(sys.argv[1]), sys.argv[2])
"""


def sleepers(seconds: str) -> list[int]:
    """Processes that sleep for exactly so long."""
    found = psutil.process_iter(["cmdline"])
    return [process.pid for process in found if process.info["cmdline"] == ["sleep", seconds]]


async def test_a_container_ends_with_a_node_that_is_killed(tmp_path: Path) -> None:
    mark = f"3601.{os.getpid()}"
    executor = RuncExecutor(f"killed-node-{mark}", tmp_path / "images")
    if cause := await executor.why_not():
        pytest.skip(f"tier runc cannot be used here: {cause}")
    words = [sys.executable, "-c", NODE, str(tmp_path), mark]
    node = await trio.to_thread.run_sync(lambda: subprocess.Popen(words, stdout=subprocess.PIPE))
    try:
        assert node.stdout is not None
        assert await trio.to_thread.run_sync(node.stdout.readline) == b"started\n"
        await happens(lambda: len(sleepers(mark)) == 1)
        node.kill()
        await happens(lambda: not sleepers(mark))
    finally:
        node.kill()
        node.communicate()
        await executor.clean()
