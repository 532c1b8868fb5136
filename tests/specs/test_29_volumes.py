"""specs/29-volumes.md against storage.trees, storage.pieces, storage.volumes and node.volumes."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

import specs
from node.volumes import guarding
from protocol import wire
from protocol.errors import Refused
from protocol.identity import Identity
from protocol.units import KIB, Micros, PeerId
from storage import pieces, trees, volumes
from storage.volumes import Head, HeadBook

SPEC = specs.load("29-volumes")
OWNER = Identity(b"o" * 32)
PARTS = st.lists(st.sampled_from(["..", ".", "", "a", "b\\", "c\n", "d"]), max_size=5).map("/".join)


def test_constants_are_the_code_s() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in (trees, pieces, volumes, guarding) if name in vars(module)]
        assert owners, f"{name} is not in the code"
        assert all(vars(module)[name] == value for module in owners), name


@given(depth=st.integers(0, 3), target=PARTS | st.text(max_size=5))
def test_links(depth: int, target: str) -> None:
    path = "/".join(["d"] * depth + ["link"])
    assert SPEC.functions["is_link"](path, target) == (not trees.link_problem(path, target))


@given(seed=st.integers(0, 20), size=st.integers(0, 700 * KIB))
def test_cuts(seed: int, size: int) -> None:
    data = Random(seed).randbytes(size)
    found = pieces.first_piece(memoryview(data))
    table = [int(number) for number in pieces.gear()]
    near = range(max(pieces.PIECE_BYTES_MIN, found - 64), min(found + 1, size))
    cuts = [end for end in near if SPEC.functions["is_cut"](data[end - pieces.WINDOW : end], table)]
    assert SPEC.functions["first_piece"](size, cuts) == found


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from([b"c" * 32, b"d" * 32])), max_size=8))
def test_heads(offers: list[tuple[int, bytes]]) -> None:
    book, known = HeadBook("net"), None
    for sequence, catalogue in offers:
        statement = wire.sign(OWNER, "net", "volume", Head(bytes(16), sequence, 1, catalogue, 9))
        try:
            book.offer(PeerId(b"p" * 32), statement, Micros(1))
            is_taken, code = True, ""
        except Refused as refusal:
            is_taken, code = False, refusal.code
        offered = (sequence, statement.body)
        assert SPEC.functions["is_taken"](known, offered) == is_taken
        assert is_taken or code in [row["code"] for row in SPEC.table("heads")]
        known = offered if is_taken else known
