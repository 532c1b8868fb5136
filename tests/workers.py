"""How `make test` spreads the tests over worker processes: what stays together, and what begins first.

A file is one piece of work, because its tests share module fixtures; some folders are one piece, because they share a
running network or because two of them at once would disturb each other. What takes long begins first, so that no worker
is left alone with it at the end. `pytest` without -n knows nothing of this and keeps the order of the folders.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

WORKERS_MAX: Final = 4
"""Processes; a laptop stays usable, and more of them would make each other's clocks late."""

TOGETHER: Final = (
    "tests/attacks/",  # A flooded node and its honest peer, whose waits are measured.
    "tests/bad_input/",  # One node and one gateway.
    "tests/end_to_end/",  # One devnet of six processes.
    "tests/netlab/",  # Namespaces of the kernel, shaped links.
)
"""Folders whose tests run in one worker, one after the other."""

FIRST: Final = (
    "tests/end_to_end/",
    "tests/node/guest/test_corpus.py",
)
"""Pieces that take longest, the longest first."""


def count() -> int:
    """Worker processes on this machine: one per core that we may use."""
    return min(WORKERS_MAX, len(os.sched_getaffinity(0)))


def piece(nodeid: str) -> str:
    """The piece of work that a test belongs to."""
    for folder in TOGETHER:
        if nodeid.startswith(folder):
            return folder
    return nodeid.partition("::")[0]


def turn(nodeid: str, order: Sequence[str] = FIRST) -> int:
    """Where a test's piece stands in the queue."""
    return next((place for place, start in enumerate(order) if nodeid.startswith(start)), len(order))
