"""The journal keeps what it acknowledged: through kill -9, torn tails and flipped bits."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.journal import FRAME_MARK, Journal
from protocol.errors import LocalError, Refused, Unavailable

GROUPS = [[b"one"], [b"two", b"three" * 50], [b""], [b"last" * 9, b"x"]]
BLOCKS = [block for group in GROUPS for block in group]

CHILD = """
import sys
from pathlib import Path
from node.journal import Journal

journal = Journal(Path(sys.argv[1]))
height = len(journal)
while True:
    group = [b"%d:" % (height + n) + b"." * (37 * (height + n) % 3000) for n in range(1 + height % 3)]
    journal.append(group)
    height += len(group)
    sys.stdout.write(f"{height}\\n")
    sys.stdout.flush()
"""


def filled(path: Path) -> list[int]:
    """A journal with GROUPS; the file's size after each append."""
    journal = Journal(path)
    sizes = [path.stat().st_size]
    for group in GROUPS:
        journal.append(group)
        sizes.append(path.stat().st_size)
    journal.close()
    return sizes


def reopened(path: Path) -> list[bytes]:
    journal = Journal(path)
    try:
        return journal.read_all()
    finally:
        journal.close()


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    filled(tmp_path / "journal")
    journal = Journal(tmp_path / "journal")
    assert journal.read_all() == BLOCKS
    assert (len(journal), journal[0], journal[-1], journal[1:3]) == (len(BLOCKS), BLOCKS[0], BLOCKS[-1], BLOCKS[1:3])
    assert journal.cut_bytes == 0
    journal.append([b"more"])
    assert journal[len(BLOCKS)] == b"more"
    with pytest.raises(IndexError):
        journal[len(BLOCKS) + 1]
    journal.close()
    assert reopened(tmp_path / "journal") == [*BLOCKS, b"more"]


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A real process appends and says what is durable; it is killed in the middle of it, five times on one file."""
    path, least = tmp_path / "journal", 0
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    for life in range(5):
        command = [sys.executable, "-c", CHILD, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as child:
            assert child.stdout is not None
            for _ in range(10 + 17 * life):
                least = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read().split("\n")
            least = max([least, *(int(line) for line in rest[:-1] if line)])
        blocks = reopened(path)
        assert len(blocks) >= least
        assert all(block.startswith(b"%d:" % number) for number, block in enumerate(blocks))


def test_a_file_cut_anywhere_keeps_every_whole_append(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    sizes = filled(path)
    whole = path.read_bytes()
    for size in range(sizes[0], sizes[-1]):
        path.write_bytes(whole[:size])
        journal = Journal(path)
        kept = sum(len(group) for group, end in zip(GROUPS, sizes[1:], strict=True) if end <= size)
        assert journal.read_all() == BLOCKS[:kept]
        assert journal.cut_bytes == size - max(end for end in sizes if end <= size)
        journal.append([b"goes on"])
        journal.close()
        assert reopened(path) == [*BLOCKS[:kept], b"goes on"]


def test_a_torn_last_append_is_cut_whichever_of_its_pages_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    sizes = filled(path)
    whole = path.read_bytes()
    for place in range(sizes[-2], sizes[-1]):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        assert reopened(path) == BLOCKS[:-2]


def test_damage_before_a_later_append_is_named_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    sizes = filled(path)
    whole = path.read_bytes()
    for place in range(sizes[0], sizes[-2]):
        damaged = whole[:place] + bytes([whole[place] ^ 0x01]) + whole[place + 1 :]
        path.write_bytes(damaged)
        first = 1 + sum(len(group) for group, end in zip(GROUPS, sizes[1:], strict=True) if end <= place)
        with pytest.raises(LocalError, match=f"block {first} is damaged") as caught:
            Journal(path)
        assert caught.value.fix
        assert path.read_bytes() == damaged, "nothing is repaired that cannot be"


def test_a_block_that_looks_like_a_frame_is_only_a_block(tmp_path: Path) -> None:
    """Somebody got a copied frame into a block; a torn tail behind it is still repaired."""
    path = tmp_path / "journal"
    filled(path)
    whole = path.read_bytes()
    journal = Journal(path)
    journal.append([whole[whole.index(FRAME_MARK) :] * 2])
    journal.close()
    torn = path.read_bytes()[:-1]
    path.write_bytes(torn)
    assert reopened(path) == BLOCKS


def test_frames_of_another_history_do_not_fit(tmp_path: Path) -> None:
    """Two copies of one journal went on differently; the end of one behind the middle of the other is no journal."""
    first, second = tmp_path / "first", tmp_path / "second"
    Journal(first).close()
    second.write_bytes(first.read_bytes())
    middle = 0
    for path, letter in ((first, b"a"), (second, b"b")):
        journal = Journal(path)
        journal.append([letter * 9])
        middle = path.stat().st_size
        journal.append([letter * 9])
        journal.close()
    first.write_bytes(first.read_bytes()[:middle] + second.read_bytes()[middle:])
    assert reopened(first) == [b"a" * 9]


@given(junk=st.binary(max_size=200))
def test_any_file_opens_or_is_refused(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    path = tmp_path_factory.mktemp("junk") / "journal"
    path.write_bytes(junk)
    try:
        assert reopened(path) == []
    except Refused as error:
        assert error.code == "no_journal"
        assert path.read_bytes() == junk


def test_a_second_process_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with pytest.raises(Refused) as caught:
        Journal(tmp_path / "journal")
    assert caught.value.code == "journal_in_use"
    journal.close()
    Journal(tmp_path / "journal").close()


def test_a_full_disk_is_said_and_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append([b"before"])
    size = path.stat().st_size
    real = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) > 500:
            return real(descriptor, bytes(data[:300]), offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(Unavailable) as caught:
            journal.append([b"too much" * 100])
        assert caught.value.code == "disk_full"
    assert path.stat().st_size == size, "what was half written is gone"
    journal.append([b"after"])
    journal.close()
    assert reopened(path) == [b"before", b"after"]


def test_a_failed_fsync_stops_the_validator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal")

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(LocalError) as caught:
        journal.append([b"x"])
    assert caught.value.code == "disk_failed"
    assert len(journal) == 0
    journal.close()
