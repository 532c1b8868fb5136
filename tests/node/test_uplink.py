"""The uplink is what was seen to leave, the best of late, within what the owner allows; it outlives a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.store import RecordStore
from node.uplink import REMEMBERED, Uplink, rounded
from protocol.units import SECOND, Micros

NOW = Micros(1_800_000_000 * SECOND)


class Line:
    """What left so far, and what snapshots measured."""

    def __init__(self, records: RecordStore, cap: int = 0) -> None:
        self.sent = self.snapshots = 0
        self.now = NOW
        self.uplink = Uplink(records, lambda: self.sent, lambda: self.snapshots, cap)

    def send(self, rate: int, seconds: int) -> int:
        told = self.uplink.look(self.now)
        for _ in range(seconds):
            self.now = Micros(self.now + SECOND)
            self.sent += rate
            told = self.uplink.look(self.now)
        return told


@pytest.fixture
def records(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "node.sqlite")


def test_nothing_is_known_until_enough_has_left(records: RecordStore) -> None:
    line = Line(records)
    assert line.send(100_000, 20) == 0
    assert line.uplink.words == "not measured yet"
    assert line.send(12_783_112, 11) == 12_000_000
    assert line.uplink.words == "96 Mbit/s"


def test_a_slow_receiver_does_not_make_the_line_slow(records: RecordStore) -> None:
    line = Line(records)
    line.send(50_000_000, 11)
    assert line.send(2_000_000, 60) == 50_000_000
    line.now = Micros(line.now + REMEMBERED)
    assert line.send(2_000_000, 20) == 2_000_000, "after hours the line is what it is now"


def test_snapshots_tell_too(records: RecordStore) -> None:
    line = Line(records)
    line.snapshots = 7_770_000
    assert line.uplink.look(NOW) == 7_700_000


def test_the_owner_allows_no_more(records: RecordStore) -> None:
    line = Line(records, cap=5_000_000)
    assert line.send(0, 1) == 5_000_000
    assert line.uplink.words == "40 Mbit/s, as set; not measured yet"
    assert line.send(50_000_000, 11) == 5_000_000


def test_it_outlives_a_restart(records: RecordStore) -> None:
    Line(records).send(12_500_000, 11)
    assert Line(records).uplink.told == 12_000_000


@given(st.integers(1, 10**15))
def test_rounding_promises_no_more(rate: int) -> None:
    assert 0 < rounded(rate) <= rate < rounded(rate) * 1.1
