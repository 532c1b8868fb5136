"""The node's records: one at a time and several together, and which of them survive a power cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from node.store import RecordStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    store = RecordStore(tmp_path / "records")
    yield store
    store.close()


def level(store: RecordStore) -> int:
    """1: the last second may be lost; 2: durable on return."""
    return int(store._db.pragma("synchronous"))


def test_records_are_written_read_and_deleted(store: RecordStore) -> None:
    store.put("job/1", b"one")
    store.put("job/2", b"two")
    store.put("job/1", None)
    assert (store.get("job/1"), store.get("job/2")) == (None, b"two")
    assert list(store.scan("job/")) == [("job/2", b"two")]


def test_several_are_written_in_order(store: RecordStore) -> None:
    store.put_all([("job/1", b"one"), ("job/2", b"two"), ("job/1", b"three"), ("job/2", None)])
    store.put_all([("job/3", b"alone")])
    assert dict(store.scan("job/")) == {"job/1": b"three", "job/3": b"alone"}


def test_several_are_written_together_or_not_at_all(store: RecordStore) -> None:
    with pytest.raises(TypeError):
        store.put_all([("job/1", b"one"), ("job/2", object())])  # type: ignore[list-item]
    assert store.get("job/1") is None
    store.put("job/1", b"again")
    assert store.get("job/1") == b"again"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [(["log/1"], 1), (["receipt/1", "log/2"], 1), (["job/1"], 2), (["receipt/1", "job/1"], 2), (["lease/1"], 2)],
)
def test_what_costs_money_is_durable_whatever_was_written_before(
    store: RecordStore, keys: list[str], expected: int
) -> None:
    for before in ("log/0", "job/0"):
        store.put(before, b"x")
        store.put_all([(key, b"x") for key in keys])
        assert level(store) == expected


def test_they_are_there_after_a_restart(tmp_path: Path) -> None:
    first = RecordStore(tmp_path / "records")
    first.put_all([("job/1", b"one"), ("receipt/1", b"two")])
    first.close()
    again = RecordStore(tmp_path / "records")
    assert (again.get("job/1"), again.get("receipt/1")) == (b"one", b"two")
    again.close()
    with pytest.raises(apsw.ConnectionClosedError):
        again.get("job/1")
