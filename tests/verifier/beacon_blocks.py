"""Certified blocks with the parts of a beacon, as validators of a small network make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from protocol import block
from protocol.beacon import seal_part, value_of
from protocol.block import header_hash
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.messages import Block, Header, Outcome, Receipts
from protocol.operations import BeaconCommit, BeaconReveal, Operation, SignedOp, signed_op
from protocol.policy import Policy
from protocol.units import Digest

KEYS: Final = tuple(Identity(bytes([number]) * 32) for number in range(101, 105))
"""Of four validators: three are a quorum."""

NETWORK: Final = Genesis("test", 0, tuple((key.peer, 1) for key in KEYS), (), policy=Policy(has_beacon=True))


def header_at(height: int, operations: Sequence[SignedOp] = (), receipts_root: bytes = bytes(32)) -> Header:
    """A header of the network."""
    zero = bytes(32)
    root = block.ops_root(operations) if operations else zero
    digest = NETWORK.validator_set.digest
    return Header("test", height, height, zero, root, receipts_root, zero, digest, max(1, len(operations)))


def block_of(height: int, *operations: Operation, status: str = "applied") -> Receipts:
    """All operations of one block, with their proofs."""
    whole, outcomes = made(height, operations, status)
    tree = block.receipt_tree(outcomes)
    (receipts,) = block.make_receipts(whole, outcomes, range(len(outcomes)), tree)
    return receipts


def made(height: int, operations: Sequence[Operation], status: str = "applied") -> tuple[Block, tuple[Outcome, ...]]:
    """The block itself, and what became of its operations."""
    signed = [signed_op("test", operation, KEYS[0]) for operation in operations]
    outcomes = tuple(Outcome(one.op_id, "applied" if status == "applied" else "refused", "ok", "") for one in signed)
    header = header_at(height, signed, block.receipt_tree(outcomes).root)
    return Block(header, tuple(block.certify(key, header) for key in KEYS[:3]), tuple(signed)), outcomes


def bare(receipts: Receipts) -> Receipts:
    """As judges keep them: without the signatures of the operations."""
    return replace(receipts, operations=tuple(SignedOp(one.body, ()) for one in receipts.operations))


def commit(key: Identity, number: int, secret: bytes) -> BeaconCommit:
    return BeaconCommit(number, key.peer, seal_part(key.peer, number, secret))


def secret_of(key: Identity, number: int) -> bytes:
    return bytes([key.peer[0], number]) * 16


def beacon_blocks(number: int = 7, height: int = 20) -> tuple[list[Receipts], Digest]:
    """Two blocks of seals and two of openings; the value that comes of them."""
    seals = [commit(key, number, secret_of(key, number)) for key in KEYS]
    opened = [BeaconReveal(number, key.peer, secret_of(key, number)) for key in KEYS]
    blocks = [block_of(height, *seals[:3]), block_of(height + 1, seals[3])]
    blocks += [block_of(height + 2, *opened[:2]), block_of(height + 3, *opened[2:])]
    secrets: dict[bytes, bytes] = {key.peer: secret_of(key, number) for key in KEYS}
    return [bare(one) for one in blocks], value_of(number, header_hash(blocks[0].header), secrets)
