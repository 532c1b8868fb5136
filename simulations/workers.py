"""Worker processes that end with their parent, however that ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor


def worker_pool(jobs: int) -> ProcessPoolExecutor:
    """Fresh interpreters. Ctrl-C is the parent's to answer, and a parent that is killed leaves no worker behind."""
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_settle_in)


def _settle_in() -> None:
    """Ctrl-C reaches the whole process group; only the parent answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """A killed parent says nothing, and a worker would wait for its next task for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
