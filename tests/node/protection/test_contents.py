"""Folders and parts: everything comes back as it was, and nothing that was not meant to be there."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.protection.contents import (
    STATE_NAME,
    TABLE_NAME,
    TENSORS_NAME,
    Contents,
    FileEntry,
    FolderWriter,
    copy,
    examine,
    parts,
    step_of,
)
from node.protection.removal import remove
from node.protection.safetensors_header import TensorRange, header_size, tensor_ranges
from protocol.errors import Refused
from protocol.units import MIB

STATE = b"\x81\xa5steps\x07"


def tensor_file(**tensors: tuple[str, list[int], bytes]) -> bytes:
    table: dict[str, object] = {"__metadata__": {"a": "b"}}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + data


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    folder = tmp_path / "1"
    (folder / "files" / "deep" / "er").mkdir(parents=True)
    (folder / STATE_NAME).write_bytes(STATE)
    (folder / TENSORS_NAME).write_bytes(
        tensor_file(w=("F32", [2, 2], bytes(16)), b=("I64", [0], b""), c=("U8", [3], b"abc"))
    )
    (folder / "files" / "deep" / "x").write_bytes(b"hello")
    (folder / "files" / "tool").write_bytes(b"")
    (folder / "files" / "tool").chmod(0o755)
    return folder


def carried(source: Path, target: Path, bytes_max: int = MIB) -> Contents:
    """Through all of it: examined, copied, cut into parts, laid out again."""
    contents = examine(source, MIB, is_framework=True)
    copy(source, target.with_suffix(".own"), contents)
    writer = FolderWriter(target, bytes_max)
    for part in reversed(parts(target.with_suffix(".own"), contents)):
        for start in range(0, max(1, len(part.data)), 3):
            writer.write(part.name, start, part.data[start : start + 3])
    return writer.finish()


def test_a_folder_comes_back_as_it_was(snapshot: Path, tmp_path: Path) -> None:
    contents = carried(snapshot, tmp_path / "back")
    assert [file.path for file in contents.files] == ["files/deep/x", "files/tool", STATE_NAME, TENSORS_NAME]
    for file in contents.files:
        before, after = snapshot / file.path, tmp_path / "back" / file.path
        assert before.read_bytes() == after.read_bytes()
        assert before.stat().st_mtime_ns == after.stat().st_mtime_ns
    assert (tmp_path / "back" / "files" / "deep" / "er").is_dir()
    assert (tmp_path / "back" / "files" / "tool").stat().st_mode & 0o111


def test_tensors_are_parts_of_their_own(snapshot: Path, tmp_path: Path) -> None:
    contents = examine(snapshot, MIB, is_framework=True)
    copy(snapshot, tmp_path / "own", contents)
    found = {part.name: (part.itemsize, len(part.data)) for part in parts(tmp_path / "own", contents)}
    sizes = [size for name, size in found.items() if name.startswith(TENSORS_NAME + "@") and not name.endswith("@0")]
    assert sorted(sizes) == [(1, 3), (4, 16)]
    assert TABLE_NAME in found


def test_the_step_is_read_from_the_state(snapshot: Path) -> None:
    assert step_of(snapshot) == 7
    (snapshot / STATE_NAME).write_bytes(b"\x82\xa5steps\x00\xa6rounds\x09")
    assert step_of(snapshot) == 9
    for garbled in (b"\x81\xa1a\x01", b"\x82\xa5steps", b"\xc1", b""):
        (snapshot / STATE_NAME).write_bytes(garbled)
        assert step_of(snapshot) is None


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("../x@0", "no path"),
        ("/etc/passwd@0", "no path"),
        ("a/../../x@0", "no path"),
        ("a\\b@0", "no path"),
        ("files/x", "no name"),
        ("files/x@-1", "no name"),
        ("files/x@9999999", "no name"),
        ("files/x@99999999999999999999", "no name"),
        ("files/x@٣", "no name"),
        ("@0", "no path"),
        ("x" * 490 + "@0", "too long"),
        ("/".join("a" * 60) + "@0", "too long"),
    ],
)
def test_parts_from_elsewhere_stay_in_their_folder(tmp_path: Path, name: str, word: str) -> None:
    writer = FolderWriter(tmp_path / "back", 1000)
    with pytest.raises(Refused, match=word):
        writer.write(name, 0, b"x")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_is_missing_too_much_or_twice_is_refused(tmp_path: Path) -> None:
    table = msgspec.msgpack.encode(Contents((FileEntry("a", 3),)))
    for number, (written, word) in enumerate(
        [
            ([], "table of contents is not right"),
            ([(TABLE_NAME, table)], "not complete"),
            ([(TABLE_NAME, table), ("a@0", b"abc"), ("b@0", b"c")], "not in its table"),
            ([(TABLE_NAME, table), ("a@0", b"abc"), ("a@0", b"abc")], "not complete"),
            ([(TABLE_NAME, table), ("a@5", b"abc")], "not complete"),
            ([("a@0", b"x"), ("a/b@0", b"x")], "cannot be made"),
        ]
    ):
        with pytest.raises(Refused, match=word):
            writer = FolderWriter(tmp_path / str(number), 100)
            for name, data in written:
                writer.write(name, 0, data)
            writer.finish()
    writer = FolderWriter(tmp_path / "bomb", 100)
    with pytest.raises(Refused, match="larger"):
        for _ in range(1000):
            writer.write(TABLE_NAME, 0, bytes(MIB))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.text("ab/.\\@\0é", min_size=1, max_size=8), st.binary(max_size=40), max_size=4),
    st.binary(max_size=60),
)
def test_no_parts_break_out_or_crash(found: dict[str, bytes], table: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        writer = FolderWriter(top / "back", 200)
        try:
            writer.write(TABLE_NAME, 0, table)
            for path, data in found.items():
                writer.write(path + "@0", 0, data)
            writer.finish()
        except Refused:
            pass
        assert [path.name for path in top.iterdir()] == ["back"]


def test_a_file_that_shrinks_or_turns_into_a_link_meanwhile_is_refused(snapshot: Path, tmp_path: Path) -> None:
    contents = examine(snapshot, MIB, is_framework=True)
    (snapshot / TENSORS_NAME).write_bytes(b"short")
    with pytest.raises(Refused, match="shorter"):
        copy(snapshot, tmp_path / "own", contents)
    (snapshot / TENSORS_NAME).unlink()
    (snapshot / TENSORS_NAME).symlink_to("/etc/passwd")
    with pytest.raises(Refused, match="cannot be read"):
        copy(snapshot, tmp_path / "own2", contents)
    (snapshot / "files" / "deep" / "er").rmdir()
    (snapshot / "files" / "deep" / "x").unlink()
    (snapshot / "files" / "deep").rmdir()
    (snapshot / "files" / "deep").symlink_to("/etc")
    only = Contents((FileEntry("files/deep/passwd", 1),), ("files", "files/deep"))
    with pytest.raises(Refused, match="cannot be read"):
        copy(snapshot, tmp_path / "own3", only)


def test_a_copy_keeps_its_bytes_when_the_job_goes_on_writing(snapshot: Path, tmp_path: Path) -> None:
    contents = examine(snapshot, MIB, is_framework=True)
    with (snapshot / TENSORS_NAME).open("r+b") as held:
        copy(snapshot, tmp_path / "own", contents)
        found = parts(tmp_path / "own", contents)
        before = [bytes(part.data) for part in found]
        held.truncate(0)
        assert [bytes(part.data) for part in found] == before


def test_a_tensor_header_is_read_strictly() -> None:
    good = tensor_file(a=("F32", [2], bytes(8)), b=("BF16", [1, 2], bytes(4)))
    size = header_size(good[:8], len(good))
    assert tensor_ranges(good[:size], len(good)) == [
        TensorRange("a", 4, size, size + 8),
        TensorRange("b", 2, size + 8, size + 12),
    ]
    right = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    tables: list[object] = [
        {"a": {**right, "shape": [3]}},
        {"a": {**right, "data_offsets": [4, 12]}},
        {"a": {**right, "data_offsets": [8, 0]}},
        {"a": {**right, "dtype": "F99"}},
        {"a": {**right, "shape": [-2]}},
        {"a": {**right, "more": 1}},
        {"a": right, "b": {**right, "dtype": "U8", "shape": [8]}},
        {"a": {**right, "shape": [2**62] * 60}},
        [],
    ]
    for table in tables:
        header = json.dumps(table).encode()
        whole = struct.pack("<Q", len(header)) + header
        with pytest.raises(Refused):
            tensor_ranges(whole, len(whole) + 8)


@given(st.binary(max_size=300))
def test_no_tensor_header_crashes(data: bytes) -> None:
    try:
        tensor_ranges(struct.pack("<Q", len(data)) + data, len(data) + 8)
    except Refused as refusal:
        assert refusal.code == "snapshot_bad"


def test_trees_deeper_than_any_recursion_are_deleted(tmp_path: Path) -> None:

    top = tmp_path / "grave" / "top"
    top.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    here = os.open(top, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    (top / "link").symlink_to(outside)
    (top / "locked").mkdir()
    (top / "locked" / "x").touch()
    (top / "locked").chmod(0)
    remove(top, tmp_path / "grave")
    remove(tmp_path / "nothing", tmp_path / "grave")
    assert list((tmp_path / "grave").iterdir()) == []
    assert (outside / "precious").exists()
