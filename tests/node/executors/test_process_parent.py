"""A sandbox lives as long as its node, not as long as one of the node's idle threads."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio

from node.executors import process
from tests.node.waiting import happens, until

ORPHAN = """
import ctypes, signal, sys, time
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: what bwrap's --die-with-parent asks for.
print("ready", flush=True)
time.sleep(600)
"""


async def test_the_last_words_are_read_however_late_the_node_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "DRAIN_SECONDS", 0.0)
    lines: list[str] = []
    async with process.started(["/bin/sh", "-c", "echo one; echo two"], env={}, folder=tmp_path) as child:
        await child.wait()
        await process.follow(child, lines.append, child.wait)
    assert lines == ["one", "two"]


async def test_a_child_outlives_the_threads_that_trio_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio._core._thread_cache.IDLE_TIMEOUT", 0.05)
    lines: list[str] = []
    async with process.started([sys.executable, "-c", ORPHAN], env={}, folder=tmp_path) as child:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.follow, child, lines.append, child.wait)
            await happens(lambda: bool(lines))
            gone = lambda: not Path(f"/proc/{child.pid}/exe").exists()  # noqa: E731
            assert not await until(gone, 0.5), "it died ten idle threads later"
            nursery.cancel_scope.cancel()
        ended = os.pidfd_open(child.pid)
        with trio.move_on_after(0) as looked:
            await trio.lowlevel.wait_readable(ended)
        os.close(ended)
        assert looked.cancelled_caught, "it lives until it is killed"
    assert child.returncode == -9
