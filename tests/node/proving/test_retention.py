"""States that are owed: kept together, across restarts, and gone when their verdict is final."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.blobs import BlobStore
from node.proving.retention import KEEP_SECONDS, Retention
from protocol.units import KIB, MIB, Digest
from tests.node.proving.bench import Bench
from tests.node.proving.programs import WALK


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 1 * MIB)


def test_a_release_removes_what_no_other_record_names(tmp_path: Path, blobs: BlobStore) -> None:
    one, two, shared = blobs.put(b"one"), blobs.put(b"two"), blobs.put(b"shared")
    kept = Retention(blobs, tmp_path / "retained")
    kept.keep(one, [one, shared])
    kept.keep(two, [two, shared])
    assert kept.bytes_kept == len("onetwoshared")
    kept.release(one)
    assert [blobs.has(digest) for digest in (one, two, shared)] == [False, True, True]
    kept.release(two)
    kept.release(two)
    assert blobs.total_bytes == kept.bytes_kept == 0


def test_records_outlive_the_process_and_half_written_ones_do_not(tmp_path: Path, blobs: BlobStore) -> None:
    one = blobs.put(b"one")
    Retention(blobs, tmp_path / "retained").keep(one, [one])
    (tmp_path / "retained" / "half.part").write_bytes(b"?" * 31)
    again = Retention(blobs, tmp_path / "retained")
    assert again.keeps(one) and [path.name for path in (tmp_path / "retained").iterdir()] == [one.hex()]
    again.release(one)
    assert not blobs.has(one) and not list((tmp_path / "retained").iterdir())


def test_what_nobody_released_goes_after_two_weeks(tmp_path: Path, blobs: BlobStore) -> None:
    old, young = blobs.put(b"old"), blobs.put(b"young")
    kept = Retention(blobs, tmp_path / "retained")
    kept.keep(old, [old])
    kept.keep(young, [young])
    written = (tmp_path / "retained" / old.hex()).stat().st_mtime
    os.utime(tmp_path / "retained" / young.hex(), (written + 100, written + 100))
    assert kept.sweep(written + KEEP_SECONDS) == 0
    assert kept.sweep(written + KEEP_SECONDS + 50) == 1
    assert not blobs.has(old) and blobs.has(young)


@given(st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 9))), max_size=30))
def test_a_blob_is_here_as_long_as_a_record_names_it(steps: list[tuple[int, set[int]]]) -> None:
    """Against a model: a dictionary of sets. A step with an empty set is a release."""

    class Store:
        here: set[Digest]

        def __init__(self) -> None:
            self.here = set()

        def has(self, digest: Digest) -> bool:
            return digest in self.here

        def remove(self, digest: Digest) -> None:
            self.here.discard(digest)

    store = Store()
    model: dict[int, set[Digest]] = {}

    with tempfile.TemporaryDirectory() as folder:
        kept = Retention(store, Path(folder))  # type: ignore[arg-type]
        for name, numbers in steps:
            digests = {Digest(bytes([number]) * 32) for number in numbers}
            if digests:
                store.here |= digests
                kept.keep(Digest(bytes([name + 100]) * 32), digests)
                model[name] = model.get(name, set()) | digests
            else:
                kept.release(Digest(bytes([name + 100]) * 32))
                model.pop(name, None)
            assert store.here == set().union(*model.values())


async def test_a_finished_run_is_held_and_released_without_its_output(bench: Bench) -> None:
    done = await bench.execute(bench.spec(WALK))
    trace = bench.trace(done)
    kept = bench.runners["child"].retention
    assert kept.keeps(done.trace) and kept.bytes_kept > 6 * 512
    kept.release(done.trace)
    assert not bench.blobs.has(done.trace)
    assert not any(bench.blobs.has(Digest(leaf.state)) for leaf in trace.leaves[:-1])
    assert bench.blobs.has(Digest(trace.leaves[-1].state))  # It is a file of the output.
    assert bench.blobs.total_bytes < 8 * KIB
