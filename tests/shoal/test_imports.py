"""The imports of a process that stays are never looked through for garbage."""

from __future__ import annotations

import subprocess
import sys

import pytest

FOREVER = """
import gc
from shoal.imports import lasting
with lasting():
    assert not gc.isenabled()
    import protocol.jobspec
    before = gc.get_stats()
assert gc.isenabled() and gc.get_freeze_count() > 10_000
assert all(gone["collections"] == stats["collections"] for gone, stats in zip(gc.get_stats(), before))
loop = []
loop.append(loop)
del loop
assert gc.collect() >= 1, "what is made later is still looked at"
"""


def test_what_is_imported_so_is_not_looked_at_again() -> None:
    """In a process of its own, as the collector belongs to the process."""
    subprocess.run([sys.executable, "-c", FOREVER], check=True, timeout=60)


def test_an_import_that_fails_leaves_the_collector_on() -> None:
    import gc

    from shoal.imports import lasting

    with pytest.raises(ImportError), lasting():
        import shoal.nothing  # type: ignore[import-not-found]  # noqa: F401  # There is none, which is the point.
    assert gc.isenabled()
