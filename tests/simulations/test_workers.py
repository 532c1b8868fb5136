"""Workers do their work, and end with their parent even when that is killed."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from operator import add

import psutil

from simulations.workers import worker_pool

PARENT = """
import os, signal
from simulations.workers import worker_pool
if __name__ == "__main__":
    pool = worker_pool(1)
    print(pool.submit(os.getpid).result(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_work_is_done_elsewhere() -> None:
    with worker_pool(1) as pool:
        assert pool.submit(add, 2, 3).result() == 5


def test_a_killed_parent_leaves_no_worker() -> None:
    done = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True)
    assert done.returncode == -9
    worker = int(done.stdout)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(worker).wait(timeout=60)
    assert not psutil.pid_exists(worker)
