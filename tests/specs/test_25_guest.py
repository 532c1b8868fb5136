"""specs/25-guest.md against node/guest/hook."""

from __future__ import annotations

import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import specs
from node.guest.hook import (
    board,
    cutting,
    heap,
    outfiles,
    packing,
    patience,
    policy,
    restore,
    resume,
    rewrite,
    session,
    tensorfile,
    tensors,
    writer,
)  # fmt: skip

SPEC = specs.load("25-guest")
MODULES = (
    board, cutting, heap, outfiles, packing, patience, policy, restore, resume, session, tensorfile, tensors, writer
)  # fmt: skip


def test_constants_are_the_code_s() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in MODULES if name in vars(module)]
        assert owners, f"{name} is not in the code"
        assert all(vars(module)[name] == value for module in owners), name


def test_fields_and_states_are_the_code_s() -> None:
    assert tuple(row["field"] for row in SPEC.table("board")) == board.FIELDS
    assert tuple(row["state"] for row in SPEC.table("states")) == board.STATES


def test_the_board_lies_as_it_says(tmp_path: Path) -> None:
    page = board.Board.create(str(tmp_path / "board"))
    page.set("steps", 77)
    page.say("disabled", "no reason")
    data = (tmp_path / "board").read_bytes()
    assert len(data) == SPEC.constants["BOARD_BYTES"]
    assert struct.pack(">Q", struct.unpack_from("<Q", data)[0]) == b"SHOALB01"
    assert struct.unpack_from("<Q", data, 8 * board.FIELDS.index("steps")) == (77,)
    assert data[board.TEXT_OFFSET :].split(b"\0")[0] == b"no reason"
    page.close()


@given(st.integers(0, 10_000))
def test_hidden_names_are_as_it_says(index: int) -> None:
    assert SPEC.functions["hidden"](index) == rewrite.hidden(index)


@given(st.integers(0, 12), st.floats(0, 100))
def test_cuts_without_an_optimizer_are_as_it_says(depth: int, waited: float) -> None:
    rule = policy.Policy()
    rule.due_since(0.0)
    wait = SPEC.functions["wait_s"](depth)
    assert isinstance(wait, float)
    assert rule.is_cut((1, 1), depth, 0, waited) == (waited >= wait)


def test_extensions_are_as_it_says() -> None:
    wanted = {1: packing.pack(packing.Ref(7)), 2: packing.pack(2**70), 3: packing.pack(1j)}
    for row in SPEC.table("messagepack extensions"):
        data = wanted[int(row["type"])]
        assert int(row["type"]) in data[1:6]
