"""A last will is executed when its owner is killed, and never when the owner took it back."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import trio

from node.executors.will import last_will
from tests.node.waiting import happens

OWNER = """
import sys, trio
from node.executors.will import last_will

async def main():
    async with last_will(["/bin/sh", "-c", "echo dead > " + sys.argv[1]], {"PATH": "/usr/bin:/bin"}):
        print("stands", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


async def test_it_is_executed_when_its_owner_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = [sys.executable, "-c", OWNER, str(mark)]
    owner = await trio.to_thread.run_sync(lambda: subprocess.Popen(command, stdout=subprocess.PIPE))
    try:
        assert owner.stdout is not None
        assert await trio.to_thread.run_sync(owner.stdout.readline) == b"stands\n"
        assert not mark.exists()
        owner.send_signal(signal.SIGKILL)
        await happens(lambda: mark.exists() and mark.read_text() == "dead\n")
    finally:
        owner.kill()
        owner.communicate()


async def test_it_is_taken_back_at_the_end_of_the_block(tmp_path: Path) -> None:
    mark, me = tmp_path / "mark", psutil.Process()
    files, children = me.num_fds(), set(me.children())
    async with last_will(["/bin/sh", "-c", f"echo dead > {mark}"], {"PATH": "/usr/bin:/bin"}):
        assert len(set(me.children()) - children) == 1
    assert set(me.children()) == children
    assert not mark.exists()
    assert me.num_fds() == files
