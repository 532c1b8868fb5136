"""Files that land whole or not at all, on disks that are full too."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.errors import Refused
from simulations import landing
from simulations.landing import Landing


def test_nothing_is_seen_before_the_commit(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    under_way = Landing(path)
    under_way.write(b"half")
    assert not path.exists()
    under_way.write(b"whole")
    under_way.commit()
    under_way.commit()
    under_way.abandon()
    assert path.read_bytes() == b"halfwhole"
    assert [item.name for item in path.parent.iterdir()] == ["file"]


def test_abandoned_files_leave_nothing(tmp_path: Path) -> None:
    under_way = Landing(tmp_path / "file")
    under_way.write(b"half")
    under_way.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_with_path_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.parquet"
    path.write_bytes(b"before")
    # Linux' full device behaves like a file on a disk without room.
    (tmp_path / ".metrics.parquet.part").symlink_to("/dev/full")
    with pytest.raises(Refused) as refused:
        landing.write(path, b"x" * 100_000)
    assert refused.value.code == "disk_full"
    assert refused.value.numbers == {"path": str(path), "bytes": 100_000}
    assert path.read_bytes() == b"before"
    assert [item.name for item in tmp_path.iterdir()] == ["metrics.parquet"]


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Refused) as refused:
        landing.write(tmp_path / "file" / "inside", b"x")
    assert refused.value.code == "unwritable"
