"""The simulated disk does what the node's journal and records do with the same writes and the same faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.journal import Journal
from node.store import VOLATILE as NODE_VOLATILE
from node.store import RecordStore
from protocol.errors import LocalError, Refused, ShoalError, Unavailable
from simulations.disk import BLOCK, FILE_HEADER_BYTES, FRAME_EXTRA_BYTES, FRAME_HEADER_BYTES, VOLATILE, Disk

BLOCKS = [b"one", b"two" * 40, b"", b"last" * 9]


class Fixed(Random):
    """Draws these whole numbers, in order."""

    def __init__(self, *values: int) -> None:
        super().__init__(0)
        self.values = list(values)

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return self.values.pop(0)


def disk_of(blocks: list[bytes]) -> Disk:
    disk = Disk()
    for height, block in enumerate(blocks, 1):
        disk.put(f"{BLOCK}{height}", block)
    return disk


def journal_of(path: Path, blocks: list[bytes]) -> None:
    """As the node's driver writes: one append per block."""
    journal = Journal(path)
    for block in blocks:
        journal.append([block])
    journal.close()


def outcome(read: Callable[[], list[bytes]]) -> list[bytes] | tuple[type[ShoalError], str, str]:
    """What was read, or the error's class, code and place. Paths differ and are left out."""
    try:
        return read()
    except ShoalError as error:
        place = error.detail.rpartition(": ")[2] if isinstance(error, LocalError) else ""
        return type(error), error.code, place


def opened(path: Path) -> list[bytes]:
    journal = Journal(path)
    try:
        return journal.read_all()
    finally:
        journal.close()


def test_records_come_back_in_order_and_blocks_by_height() -> None:
    disk = disk_of([b"x"] * 11)
    disk.put("job/b", b"2")
    disk.put("job/a", b"1")
    disk.put("vote", b"v")
    disk.put("job/b", None)
    disk.put("job/none", None)
    assert disk.records() == [("job/a", b"1"), ("vote", b"v")]
    assert disk.records("job/") == [("job/a", b"1")]
    assert (disk.get("vote"), disk.get("job/b")) == (b"v", None)
    assert disk.blocks() == list(disk.journal) == [b"x"] * 11


keys = st.sampled_from(["job/1", "job/2", "lease/1", "log/1", "vote"])
writes = st.lists(st.tuples(keys, st.none() | st.binary(max_size=8)), max_size=20)


@given(written=writes)
def test_records_are_those_of_the_nodes_store(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[str, bytes | None]]
) -> None:
    store, disk = RecordStore(tmp_path_factory.mktemp("store") / "node.sqlite"), Disk()
    for key, value in written:
        store.put(key, value)
        disk.put(key, value)
    assert list(store.scan("")) == disk.records()
    assert list(store.scan("job/")) == disk.records("job/")
    assert disk.bytes_used == sum(len(key) + len(value) for key, value in disk.records())
    store.close()


def test_the_same_records_are_volatile() -> None:
    assert VOLATILE == NODE_VOLATILE


def test_every_bit_of_the_journal_rots_as_in_the_real_one(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal_of(path, BLOCKS)
    whole = path.read_bytes()
    sizes = [FRAME_HEADER_BYTES + FRAME_EXTRA_BYTES + len(block) for block in BLOCKS]
    assert len(whole) == FILE_HEADER_BYTES + sum(sizes)
    for place in range(len(whole)):
        bit = place % 8
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        disk = disk_of(BLOCKS)
        disk.rot(Fixed(place, bit))
        assert outcome(disk.blocks) == outcome(lambda: opened(path)), f"byte {place}"


@given(places=st.lists(st.integers(0, 1 << 20), min_size=2, max_size=4, unique=True))
def test_rot_in_several_places_is_that_of_the_real_one(
    tmp_path_factory: pytest.TempPathFactory, places: list[int]
) -> None:
    path = tmp_path_factory.mktemp("rot") / "journal"
    journal_of(path, BLOCKS)
    data, disk = bytearray(path.read_bytes()), disk_of(BLOCKS)
    for place in {place % len(data): None for place in places}:
        data[place] ^= 1
        disk.rot(Fixed(place, 0))
    path.write_bytes(bytes(data))
    assert outcome(disk.blocks) == outcome(lambda: opened(path))


def test_a_running_node_reads_rotten_blocks_unchecked(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal_of(path, BLOCKS)
    place = FILE_HEADER_BYTES + FRAME_HEADER_BYTES + 4
    journal, disk = Journal(path), disk_of(BLOCKS)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes([b"o"[0] ^ 4]))
    assert disk.rot(Fixed(place, 2)) == "block/1"
    assert journal[0] == disk.journal[0] == b"kne"
    journal.close()


def test_rot_in_a_record_is_returned_as_if_it_were_right(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    store = RecordStore(path)
    store.put("job/1", b"a value worth money")
    store.close()
    data = bytearray(path.read_bytes())
    data[data.rindex(b"worth")] ^= 1
    path.write_bytes(bytes(data))
    store, disk = RecordStore(path), Disk()
    disk.put("job/1", b"a value worth money")
    assert disk.rot(Fixed(len(b"a value "), 0)) == "job/1"
    assert store.get("job/1") == disk.get("job/1") == b"a value vorth money"
    store.close()


def test_nothing_can_rot_on_an_empty_disk() -> None:
    assert Disk().rot(Random(1)) == ""


def test_a_torn_block_is_cut_and_the_next_takes_its_height(tmp_path: Path) -> None:
    path, seen = tmp_path / "journal", set()
    for seed in range(20):
        disk = disk_of(BLOCKS[:2])
        disk.tear_next(Random(seed))
        with pytest.raises(LocalError) as caught:
            disk.put("block/3", b"torn")
        assert caught.value.code == "power_cut"
        disk.crash(Random(seed), torn=True)
        kept = disk.blocks()
        seen.add(len(kept))
        path.unlink(missing_ok=True)
        journal_of(path, [*BLOCKS[:2], b"torn"])
        if len(kept) == 2:
            path.write_bytes(path.read_bytes()[:-1])
        assert opened(path) == kept
        disk.put(f"{BLOCK}{len(kept) + 1}", b"next")
        assert disk.blocks() == [*kept, b"next"]
    assert seen == {2, 3}, "the write that the crash interrupts may have arrived, or not"


def test_a_torn_record_has_its_old_or_its_new_value() -> None:
    seen = set()
    for seed in range(20):
        disk = Disk()
        disk.put("vote", b"old")
        disk.tear_next(Random(seed))
        with pytest.raises(LocalError, match="vote"):
            disk.put("vote", b"new")
        seen.add(disk.get("vote"))
    assert seen == {b"old", b"new"}


def test_a_kill_loses_nothing_and_a_power_cut_only_what_is_volatile() -> None:
    lost = set()
    for seed in range(20):
        disk = disk_of(BLOCKS)
        disk.put("log/1", b"flushed with the vote")
        disk.put("vote", b"v")
        disk.put("log/2", b"written out by the kill")
        disk.crash(Random(seed), torn=False)
        disk.put("log/3", b"not flushed")
        disk.crash(Random(seed), torn=True)
        assert disk.records()[:2] == [("log/1", b"flushed with the vote"), ("log/2", b"written out by the kill")]
        assert disk.get("vote") == b"v"
        assert disk.blocks() == BLOCKS
        lost.add(disk.get("log/3") is None)
    assert lost == {True, False}


def test_a_rotten_file_id_is_told_apart_from_a_torn_tail_here_as_there(tmp_path: Path) -> None:
    """No frame fits another id: once that passed for a torn tail, and every block was cut away."""
    path = tmp_path / "journal"
    journal_of(path, BLOCKS)
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(bytes(data))
    disk = disk_of(BLOCKS)
    assert disk.rot(Fixed(20, 0)) == "journal"
    with pytest.raises(LocalError, match="id is damaged"):
        disk.blocks()
    with pytest.raises(LocalError, match="id is damaged"):
        opened(path)
    assert path.read_bytes() == bytes(data), "nothing was cut"


def test_a_lying_disk_loses_the_last_writes_in_order_and_nothing_says_so() -> None:
    lengths = set()
    for seed in range(40):
        disk = Disk()
        disk.put("block/1", b"safe")
        disk.put("vote", b"0")
        disk.lies = True
        for height in range(2, 6):
            disk.put("vote", b"%d" % height)
            disk.put(f"{BLOCK}{height}", b"%d" % height)
        disk.crash(Random(seed), torn=True)
        assert disk.blocks() == [b"safe", b"2", b"3", b"4", b"5"][: len(disk.blocks())] != []
        assert disk.get("vote") in (b"0", b"2", b"3", b"4", b"5")
        lengths.add(len(disk.blocks()))
        disk.lies = False
        disk.put(f"{BLOCK}{len(disk.blocks()) + 1}", b"honest")
        disk.crash(Random(seed), torn=True)
        assert disk.blocks()[-1] == b"honest"
    assert lengths == {1, 2, 3, 4, 5}


def test_a_full_disk_refuses_and_stays_as_it_was() -> None:
    disk = Disk(bytes_max=len("block/1") + 3 + len("job/1") + 4)
    disk.put("block/1", b"abc")
    disk.put("job/1", b"1234")
    for key, value in (("block/2", b""), ("job/2", b"x"), ("job/1", b"12345")):
        with pytest.raises(Unavailable) as caught:
            disk.put(key, value)
        assert caught.value.code == "disk_full" and caught.value.fix
    disk.put("job/1", b"4321")
    disk.put("job/1", None)
    disk.put("job/2", b"5678")
    assert (disk.blocks(), disk.records()) == ([b"abc"], [("job/2", b"5678")])
    disk.bytes_max = 0
    disk.put("job/3", b"9" * 100)
    disk.fill()
    with pytest.raises(Unavailable):
        disk.put("job/4", b"x")


def test_blocks_only_follow_each_other() -> None:
    disk = disk_of(BLOCKS)
    for key, value in (("block/7", b"gap"), ("block/4", b"again"), ("block/5", None)):
        with pytest.raises(LocalError) as caught:
            disk.put(key, value)
        assert caught.value.code == "bad_block"
    assert disk.blocks() == BLOCKS


def test_a_wiped_disk_is_a_new_one() -> None:
    disk = disk_of(BLOCKS)
    disk.put("vote", b"v")
    disk.rot(Fixed(0, 0))
    with pytest.raises(Refused, match="no journal"):
        disk.blocks()
    disk.wipe()
    assert (disk.blocks(), disk.records(), disk.bytes_used) == ([], [], 0)


@given(seed=st.integers(0, 1 << 32))
def test_the_same_draws_do_the_same(seed: int) -> None:
    def run() -> tuple[str, object, list[tuple[str, bytes]]]:
        random, disk = Random(seed), disk_of(BLOCKS)
        disk.lies = True
        disk.put("vote", b"v" * 50)
        disk.put("block/5", b"five")
        where = disk.rot(random)
        disk.crash(random, torn=True)
        return where, outcome(disk.blocks), disk.records()

    assert run() == run()
