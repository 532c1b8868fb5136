"""The threads that seal and open snapshots, all tasks together: chunks wait for a core, not for each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

THREADS: Final = max(1, min(4, (os.cpu_count() or 1) // 2))
"""Half of the cores: the others belong to the job. Compression and ciphers run beside Python's lock."""

_pool: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="shoal-snapshot")
A = TypeVar("A")
B = TypeVar("B")


def apply(function: Callable[[A], B], items: Sequence[A], /) -> Iterable[B]:
    """The results in the order of the items; one item is not worth a thread."""
    return _pool.map(function, items) if len(items) > 1 and THREADS > 1 else map(function, items)
