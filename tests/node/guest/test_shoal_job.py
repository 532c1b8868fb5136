"""The three functions for jobs that save their own state, and the start by `.pth`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from node.guest.hook.board import Board
from tests.node.guest.hooked import HOOK

JOB = """
import os, signal, shoal_job
assert shoal_job.load("state") is None
shoal_job.save("state", b"one"); shoal_job.save("state", b"two")
assert shoal_job.load("state") == b"two" and os.listdir(shoal_job.FOLDER) == ["state"]
for name in ("", "../x", "a/b", ".hidden", "x" * 200):
    try: shoal_job.save(name, b"")
    except ValueError: continue
    raise SystemExit(name)
assert not shoal_job.should_stop()
os.kill(os.getpid(), signal.SIGUSR1)
assert shoal_job.should_stop() and not shoal_job.should_stop()
os.kill(os.getpid(), signal.SIGTERM)
assert shoal_job.should_stop() and shoal_job.should_stop()
raise SystemExit(85)
"""


def test_a_job_saves_loads_and_stops(tmp_path: Path) -> None:
    environment = {**os.environ, "SHOAL_CHECKPOINT_DIR": str(tmp_path / "kept"), "PYTHONPATH": str(HOOK)}
    done = subprocess.run([sys.executable, "-c", JOB], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (85, "")


def test_without_a_node_signals_are_the_program_s_own(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SHOAL_CHECKPOINT_DIR"}
    program = "import os, signal, shoal_job; os.kill(os.getpid(), signal.SIGTERM)"
    done = subprocess.run([sys.executable, "-c", program], env={**environment, "PYTHONPATH": str(HOOK)}, cwd=tmp_path)
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize("has_board", [True, False])
def test_the_pth_line_begins_the_hook_where_there_is_a_board(tmp_path: Path, has_board: bool) -> None:
    (tmp_path / "main.py").write_text("for i in range(3): print(i)\n")
    if has_board:
        Board.create(str(tmp_path / "board"))
    line = (HOOK / "shoal_hook.pth").read_text()
    program = f"import sys; sys.argv[:] = ['main.py']\n{line}\nprint('shoal_hook.session' in sys.modules)"
    environment = {**os.environ, "SHOAL_GUEST": str(HOOK), "SHOAL_SNAPSHOT_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == ["True" if has_board else "False"], done.stderr
