"""The blob store: content addressed, bounded, complete or absent, resumable."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from node.blobs import BlobStore
from protocol.errors import Refused, Unavailable
from protocol.units import MIB, Digest
from protocol.wire import digest

CONTENTS = st.binary(max_size=40)
BYTES_MAX = 200


def test_put_and_read(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, MIB)
    name = store.put(b"coral")
    assert name == digest(b"coral")
    assert (store.has(name), store.size(name), store.read(name, 5)) == (True, 5, b"coral")
    assert store.path(name).read_bytes() == b"coral"
    assert store.path(name).stat().st_mode & 0o777 == 0o444
    with pytest.raises(Refused, match="5 bytes, 4 are allowed"):
        store.read(name, 4)


def test_what_is_not_here_is_unavailable(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, MIB)
    for call in (store.size, store.path):
        with pytest.raises(Unavailable, match="not here"):
            call(Digest(bytes(32)))
    store.remove(Digest(bytes(32)))


async def test_put_file_copies_and_leaves_the_original(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)
    store = BlobStore(tmp_path / "store", 6_000_000)
    name, size = await store.put_file(source)
    assert (name, size) == (digest(b"x" * 3_000_000), 3_000_000)
    assert source.exists()
    assert await store.put_file(source) == (name, size)
    assert store.total_bytes == size
    assert list((tmp_path / "store" / "partial").iterdir()) == []


async def test_a_full_store_refuses_with_numbers(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store", 10)
    store.put(b"12345678")
    with pytest.raises(Refused) as refusal:
        store.put(b"abc")
    assert (refusal.value.code, refusal.value.numbers) == ("disk_full", {"size": 3, "used": 8, "bytes_max": 10})
    (tmp_path / "source").write_bytes(b"abc")
    with pytest.raises(Refused):
        await store.put_file(tmp_path / "source")
    with store.space(2), pytest.raises(Refused, match="10 of 10"):
        store.put(b"z")
    store.put(b"yz")


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, Refused), (errno.EIO, OSError)])
def test_a_full_disk_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    store = BlobStore(tmp_path, MIB)

    def fail(descriptor: int) -> None:
        raise OSError(number, "simulated")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(error):
        store.put(b"coral")
    assert not store.has(digest(b"coral"))
    assert store.total_bytes == 0


def test_interrupted_writes_are_cleaned_up_at_the_start(tmp_path: Path) -> None:
    BlobStore(tmp_path, MIB)
    (tmp_path / "partial" / "0.copy").write_bytes(b"x")
    (tmp_path / "partial" / ("0" * 64 + ".put")).write_bytes(b"x")
    assert BlobStore(tmp_path, MIB).total_bytes == 0
    assert list((tmp_path / "partial").iterdir()) == []


class StoreMachine(RuleBasedStateMachine):
    """The store against a dictionary, through restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=os.environ["SHOAL_TEST_FOLDER"]))
        self.store = BlobStore(self.folder, BYTES_MAX)
        self.expected: dict[Digest, bytes] = {}

    @rule(data=CONTENTS)
    def put(self, data: bytes) -> None:
        used = sum(map(len, self.expected.values()))
        if digest(data) not in self.expected and used + len(data) > BYTES_MAX:
            with pytest.raises(Refused):
                self.store.put(data)
        else:
            self.expected[self.store.put(data)] = data

    @rule(data=CONTENTS)
    def remove(self, data: bytes) -> None:
        self.store.remove(digest(data))
        self.expected.pop(digest(data), None)

    @rule()
    def restart(self) -> None:
        self.store = BlobStore(self.folder, BYTES_MAX)

    @invariant()
    def holds_what_is_expected(self) -> None:
        assert self.store.total_bytes == sum(map(len, self.expected.values())) <= BYTES_MAX
        for name, data in self.expected.items():
            assert self.store.read(name, BYTES_MAX) == data


def test_the_store_is_a_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_TEST_FOLDER", str(tmp_path))
    case = StoreMachine.TestCase
    case.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
    case().runTest()
