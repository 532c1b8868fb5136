"""Unfinished files: what the journal says is believed only when the bytes agree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.bulk.partial import HEAD_BYTES, PartialFile, WholeHash
from protocol.bulk.chunks import CHUNK_BYTES, ChunkList
from protocol.errors import Refused

DATA = b"".join(bytes([number]) * CHUNK_BYTES for number in range(3)) + b"rest"
PIECES = [DATA[at : at + CHUNK_BYTES] for at in range(0, len(DATA), CHUNK_BYTES)]
CHUNKS = ChunkList(len(DATA), b"".join(blake3(piece).digest() for piece in PIECES))


def begun(path: Path, *indexes: int) -> PartialFile:
    """A file with some chunks."""
    file = PartialFile(path)
    file.begin(CHUNKS)
    for index in indexes:
        file.write(CHUNKS, index, memoryview(PIECES[index]))
    return file


def loaded(path: Path, size_max: int = 1 << 30) -> frozenset[int] | None:
    """The chunks that another process finds; None when it starts afresh."""
    file = PartialFile(path)
    try:
        found = file.load(size_max)
    finally:
        file.close()
    assert found is None or found[0] == CHUNKS
    return None if found is None else found[1]


def test_chunks_that_came_are_here_after_a_restart(tmp_path: Path) -> None:
    begun(tmp_path / "x", 3, 1).close()
    assert loaded(tmp_path / "x") == frozenset({1, 3})
    assert loaded(tmp_path / "x", size_max=len(DATA) - 1) is None
    assert loaded(tmp_path / "y") is None
    assert not (tmp_path / "y").exists()


def test_bytes_that_changed_meanwhile_are_fetched_again(tmp_path: Path) -> None:
    begun(tmp_path / "x", 0, 1).close()
    with (tmp_path / "x").open("r+b") as file:
        file.seek(CHUNK_BYTES + 9)
        file.write(b"rot")
    assert loaded(tmp_path / "x") == frozenset({0})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.integers(0, HEAD_BYTES + 200), st.binary(max_size=12))
def test_a_journal_that_is_cut_or_scribbled_on_claims_nothing_false(tmp_path: Path, cut: int, more: bytes) -> None:
    begun(tmp_path / "x", 0, 2).close()
    journal = tmp_path / "x.journal"
    journal.write_bytes(journal.read_bytes()[:cut] + more)
    found = loaded(tmp_path / "x")
    assert found is None or found <= {0, 2}


def test_settling_leaves_the_file_alone(tmp_path: Path) -> None:
    file = begun(tmp_path / "x", 0, 1, 2, 3)
    whole = WholeHash(file)
    whole.advance(CHUNK_BYTES)
    whole.advance(len(DATA))
    assert whole.digest() == blake3(DATA).digest()
    file.settle(len(DATA))
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_full_disk_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = begun(tmp_path / "x")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Refused) as refusal:
        file.write(CHUNKS, 0, memoryview(PIECES[0]))
    assert refusal.value.code == "disk_full"
    file.close()
