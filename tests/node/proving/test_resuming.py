"""A snapshot of units on its way into a sandbox: what is not exactly what was signed for is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.executors.interface import Task
from node.proving.resuming import check, unpack
from node.proving.saving import PAD, TABLE, Table, UnitShelf
from node.proving.taking import INDEX
from protocol import wire
from protocol.errors import Refused
from protocol.jobrules import PROOF_FOLDER
from protocol.operations import Inherited
from protocol.prefix import root_of
from protocol.proof import Trace
from protocol.snapshots import Manifest, Pack
from tests.node.proving.conftest import Folder

UNITS = 6
PACK = Pack(100, 100, "copy", 1, 3, (bytes([7]) * 32,))
SIZES = ((5, 0, 3), (40, 9, 0), (1, 16, 8))
LAST = 17


def pieces() -> list[bytes]:
    """States, inputs and aux of three units, and the state behind them, all different."""
    sizes = [size for unit in SIZES for size in unit] + [LAST]
    return [bytes([65 + index]) * size for index, size in enumerate(sizes)]


def stream() -> bytes:
    return b"".join(piece + bytes(-len(piece) % PAD) for piece in pieces())


def laid(folder: Path, *cuts: int, data: bytes = b"", table: object = None) -> Path:
    """A snapshot's folder, its stream cut into segments at these places."""
    folder.mkdir()
    whole = data or stream()
    for number, (start, end) in enumerate(zip((0, *cuts), (*cuts, len(whole)), strict=True)):
        (folder / f"{number:06d}.units").write_bytes(whole[start:end])
    told = table or Table((1.0, 0.0, -1.0), SIZES, LAST)
    (folder / TABLE).write_bytes(told if isinstance(told, bytes) else msgspec.msgpack.encode(told))
    (folder.parent / "target").mkdir()
    return folder


def read(folder: Path) -> Trace:
    return unpack(folder, folder.parent / "target")[1]


def manifest(trace: Trace, **changes: object) -> Manifest:
    inherited = (Inherited(1, 1, root_of(trace, 1), bytes(64)), Inherited(3, 3, root_of(trace, 3), bytes(64)))
    made = Manifest(bytes(16), bytes(32), 0, 3, 1, 3, 0, "application", 0, 10, 10, (PACK,), inherited=inherited)
    return msgspec.structs.replace(made, **changes)


@given(cuts=st.lists(st.integers(0, len(stream())), max_size=4))
def test_the_pieces_are_those_that_were_put_in_however_they_are_cut(cuts: list[int]) -> None:
    with Folder() as folder:
        trace = read(laid(folder / "snapshot", *sorted(cuts)))
        found = [piece for index in range(3) for piece in (f"{index}.state", f"{index}.input", f"{index}.aux")]
        assert [(folder / "target" / name).read_bytes() for name in [*found, "3.state"]] == pieces()
        leaf = trace.leaves[1]
        assert (leaf.state, leaf.input, leaf.aux) == tuple(wire.digest(piece) for piece in pieces()[3:6])
        assert trace.effects[4:] == b"\xff\xff", "an effect that is none counts as the largest"
        check(trace, manifest(trace), UNITS)


def test_one_changed_byte_anywhere_has_another_root(tmp_path: Path) -> None:
    signed = manifest(read(laid(tmp_path / "snapshot", 40)))
    at = 0
    for number, piece in enumerate(pieces()):
        if piece:
            place = tmp_path / str(number)
            place.mkdir()
            bent = stream()[:at] + b"!" + stream()[at + 1 :]
            trace = read(laid(place / "snapshot", data=bent))
            with pytest.raises(Refused, match="signed for"):
                check(trace, signed, UNITS)
        at += len(piece) + -len(piece) % PAD


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda at: (at / TABLE).unlink(), "no table"),
        (lambda at: (at / TABLE).write_bytes(b"\xc1"), "garbled"),
        (lambda at: (at / TABLE).write_bytes(bytes(1 << 20)), "no table"),
        (lambda at: (at / TABLE).write_bytes(msgspec.msgpack.encode(Table((1.0,), SIZES, LAST))), "agree with itself"),
        (lambda at: (at / "000000.units").unlink(), "no stream"),
        (lambda at: (at / "more").write_bytes(b"x"), "no stream"),
        (lambda at: (at / "9.units").mkdir(), "no stream"),
        (lambda at: (at / "000000.units").write_bytes(stream()[:-20]), "cut short"),
        (lambda at: (at / "000001.units").write_bytes(b"12345678"), "more than its table"),
        (lambda at: (at / TABLE).write_bytes(msgspec.msgpack.encode(Table((1.0,), ((1, 1 << 25, 1),), 1))), "input"),
    ],
)
def test_what_is_no_stream_is_refused(tmp_path: Path, spoil: Callable[[Path], object], why: str) -> None:
    folder = laid(tmp_path / "snapshot")
    spoil(folder)
    with pytest.raises(Refused, match=why):
        read(folder)


@pytest.mark.parametrize(
    ("changes", "units", "why"),
    [
        ({"inherited": msgspec.UNSET}, UNITS, "nobody answers"),
        ({"tier": "framework"}, UNITS, "nobody answers"),
        ({"step": 2}, UNITS, "step 2"),
        ({}, 3, "step 3"),
        ({"inherited": (Inherited(1, 2, bytes(32), bytes(64)),)}, UNITS, "step 3"),
        ({"inherited": (Inherited(1, 3, bytes(32), bytes(64)),)}, UNITS, "lease 1"),
    ],
)
def test_what_nobody_signed_for_is_refused(tmp_path: Path, changes: dict[str, object], units: int, why: str) -> None:
    trace = read(laid(tmp_path / "snapshot"))
    with pytest.raises(Refused, match=why):
        check(trace, manifest(trace, **changes), units)


def test_no_unit_counts_as_done_before_the_program_has_begun(tmp_path: Path) -> None:
    """What it finds was laid there by the node; that it goes on is seen by the list that it writes anew."""
    shelf = UnitShelf(cast("Task", SimpleNamespace(folder=tmp_path, outside=tmp_path / "out")), UNITS)
    (tmp_path / "out").mkdir()
    assert shelf.done() == 0
    table, trace = unpack(laid(tmp_path / "snapshot"), tmp_path / "target")
    (tmp_path / "out" / PROOF_FOLDER).mkdir()
    index, told = tmp_path / "out" / PROOF_FOLDER / INDEX, json.dumps({"effects": table.effects, "units": UNITS})
    index.write_text(told + "\n")
    shelf.adopt(tmp_path / "snapshot", table, trace, index.read_bytes())
    assert (shelf.done(), shelf.begun) == (0, 3)
    index.write_text(told)
    assert shelf.done() == 3


def test_every_one_of_those_who_came_before_must_fit(tmp_path: Path) -> None:
    trace = read(laid(tmp_path / "snapshot"))
    early, late = manifest(trace).inherited or ()
    for false in (msgspec.structs.replace(early, root=bytes(32)), msgspec.structs.replace(early, units=2)):
        with pytest.raises(Refused, match="lease 1"):
            check(trace, manifest(trace, inherited=(false, late)), UNITS)
