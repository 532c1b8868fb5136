"""How a process that stays loads its modules: two seconds for a node's 2,000, were a third not the collector's."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """What is imported inside lives until the process ends: the collector looks for no garbage there, now or later."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
