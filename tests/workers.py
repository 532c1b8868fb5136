"""How `make test` spreads the tests over worker processes: what stays together, what begins first, what runs alone.

A file is one piece of work, because its tests share module fixtures; some folders are one piece, because they share a
running network or because two of them at once would disturb each other. What takes long begins first, so that no worker
is left alone with it at the end. `pytest` without -n knows nothing of this and keeps the order of the folders.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

WORKERS_MAX: Final = 4
"""Processes; a laptop stays usable, and more of them would make each other's clocks late."""

TOGETHER: Final = (
    ("tests/attacks/",),  # A flooded node and its honest peer, whose waits are measured.
    # One devnet of six processes; the others of that folder have a network each.
    ("tests/end_to_end/test_devnet.py", "tests/end_to_end/test_tunnels.py", "tests/end_to_end/test_volumes.py"),
    ("tests/netlab/",),  # Namespaces of the kernel, shaped links.
)
"""Folders and files whose tests run in one worker, one after the other."""

FIRST: Final[tuple[str | tuple[str, ...], ...]] = (
    TOGETHER[1],
    "tests/end_to_end/test_hardware.py",
    "tests/node/guest/test_corpus.py",
    "tests/end_to_end/test_resumed_units.py",
    "tests/simulations/test_planted.py",
    "tests/end_to_end/test_proofs.py",
    "tests/netlab/",
    "tests/end_to_end/test_units.py",
    "tests/node/guest/test_hook.py",
    "tests/end_to_end/test_forgeries.py",
    "tests/gateway/test_openapi.py",
    "tests/end_to_end/",
    "tests/engines/",
    "tests/node/volumes/test_processes.py",
    "tests/failures/",
    "tests/docs/test_notebook.py",
    "tests/attacks/",
    "tests/node/volumes/test_mounts.py",
    "tests/gateway/",
    "tests/node/discovery/test_processes.py",
    "tests/simulations/",
    "tests/packaging/",
    "tests/examples/",
)
"""Beginnings of the pieces that take longest, the longest first: 10 s and more on one core. Networks of processes wait
more than they compute, so they stand between pieces that only compute: the cores are full, and few networks up."""

LAST: Final = (
    "tests/netlab/test_shaper.py",
    "tests/simulations/test_gossip_live.py",
    "tests/node/bulk/test_plane.py",
)
"""Pieces with tests that run alone: most workers have nothing to do by then, so that few wait."""


def count() -> int:
    """Worker processes on this machine: one more than the cores that we may use: tests of networks mostly wait."""
    return min(WORKERS_MAX, len(os.sched_getaffinity(0)) + 1)


def piece(nodeid: str) -> str:
    """The piece of work that a test belongs to."""
    file = nodeid.partition("::")[0]
    return file if file in LAST else next((group[0] for group in TOGETHER if file.startswith(group)), file)


def turn(nodeid: str) -> int:
    """Where a test's piece stands in the queue."""
    if nodeid.startswith(LAST):
        return len(FIRST) + 1
    return next((place for place, start in enumerate(FIRST) if nodeid.startswith(start)), len(FIRST))


@contextmanager
def place(folder: Path, is_alone: bool) -> Iterator[None]:
    """Wait in `folder`, which all workers share, until no test runs that must be alone; or, alone, until none runs."""
    with (folder / "door").open("w") as door, (folder / "room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)  # Who waits to be alone holds the door, so that nobody else goes in.
        fcntl.flock(room, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)  # Closing would not do: a forked child may still have it open.
