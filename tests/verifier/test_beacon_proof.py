"""A beacon made again from certified operations, and what is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from protocol.beacon import value_of
from protocol.block import header_hash
from protocol.errors import Refused
from protocol.messages import Receipts
from protocol.operations import BeaconReveal, EscrowClose, Operation
from tests.verifier.beacon_blocks import KEYS, NETWORK, bare, beacon_blocks, block_of, commit, header_at, secret_of
from verifier.beacon_proof import beacon_of

BLOCKS, VALUE = beacon_blocks()
CLAIMED = header_at(20)


def test_the_value_is_that_of_the_ledger() -> None:
    assert beacon_of(BLOCKS, CLAIMED, NETWORK.validator_set) == VALUE
    assert beacon_of(BLOCKS[::-1], CLAIMED, NETWORK.validator_set) == VALUE, "in whatever order they are listed"


def test_one_who_keeps_its_part_shut_changes_the_value_and_does_not_stop_it() -> None:
    opened = [BeaconReveal(7, key.peer, secret_of(key, 7)) for key in KEYS[:3]]
    secrets: dict[bytes, bytes] = {key.peer: secret_of(key, 7) for key in KEYS[:3]}
    value = value_of(7, header_hash(BLOCKS[0].header), secrets)
    assert beacon_of([*BLOCKS[:2], bare(block_of(22, *opened))], CLAIMED, NETWORK.validator_set) == value != VALUE


def block_with(operation: Operation, status: str = "applied") -> Receipts:
    return bare(block_of(30, operation, status=status))


def rotten(blocks: list[Receipts]) -> list[Receipts]:
    header = replace(blocks[2].header, time=5)
    return [*blocks[:2], replace(blocks[2], header=header), blocks[3]]


CHANGES: dict[str, tuple[Callable[[list[Receipts]], list[Receipts]], str]] = {
    "nothing": (lambda blocks: [], "no beacon in it"),
    "no seals": (lambda blocks: blocks[2:], "no beacon in it"),
    "a seal less": (lambda blocks: [blocks[0], *blocks[2:]], "opened what it had not sealed"),
    "openings of two": (lambda blocks: blocks[:3], "opened with power 2, the quorum is 3"),
    "of two beacons": (lambda blocks: [*blocks, *beacon_blocks(8)[0]], "parts of beacon 7 and of beacon 8"),
    "another operation": (lambda blocks: [*blocks, block_with(EscrowClose(bytes(32)))], "EscrowClose is no part"),
    "a refused part": (
        lambda blocks: [*blocks, block_with(commit(KEYS[0], 7, bytes(32)), status="refused")], "the ledger refused",
    ),
    "two parts of one": (lambda blocks: [*blocks, block_with(commit(KEYS[0], 7, bytes(32)))], "has two parts"),
    "begun before the claim": (lambda blocks: beacon_blocks(7, 10)[0], "begun in block 10, the claim is in 20"),
    "signatures": (lambda blocks: [*blocks, block_of(30, commit(KEYS[0], 7, bytes(32)))], "nobody looks at"),
    "a changed header": (rotten, "bad signature"),
    "too few signatures": (
        lambda blocks: [*blocks[:3], replace(blocks[3], certificate=blocks[3].certificate[:2])], "quorum is 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_shows(change: str) -> None:
    alter, words = CHANGES[change]
    with pytest.raises(Refused, match=words) as caught:
        beacon_of(alter(BLOCKS), CLAIMED, NETWORK.validator_set)
    assert caught.value.code == "beacon_false" and caught.value.fix
