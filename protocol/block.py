"""Blocks: headers, certificates, and receipts that every peer verifies for itself. Spec: specs/08-blocks.md."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from protocol import merkle, wire
from protocol.errors import RemoteViolation
from protocol.identity import Identity, is_signed_by
from protocol.ledger import Checked, check
from protocol.messages import OPS_MAX, Block, Header, Outcome, Receipt, Receipts
from protocol.operations import Operation, Signature, SignedOp
from protocol.units import KIB, Digest, Micros, PeerId
from protocol.validators import ValidatorSet

CLOCK_STEP_MIN: Final = Micros(1_000)
CLOCK_STEP_MAX: Final = Micros(5_000_000)
"""The ledger clock moves 1 ms to 5 s per block: after an outage or a jump of a clock nothing expires by surprise."""

BLOCK_OPS_MAX: Final = OPS_MAX
BLOCK_OPS_BYTES_MAX: Final = 48 * KIB
"""Operations of one block, encoded: with header and 50 signatures it fits one 64 KiB message."""

RECEIPTS_BYTES_MAX: Final = 48 * KIB
"""What one `Receipts` carries besides header and certificate."""

block_decoder: Final = wire.decoder(Block)


def header_hash(header: Header) -> Digest:
    """The name of a block, the `previous` of the next and the beacon of the audits of its claims."""
    return Digest(hashlib.sha256(b"shoal/1\0header\0" + wire.encode(header)).digest())


def certify(identity: Identity, header: Header) -> Signature:
    """One validator's vote: it executed the block and found these roots."""
    return Signature(identity.peer, identity.sign(_vote_bytes(header)))


def is_vote(header: Header, vote: Signature) -> bool:
    """Whether the vote's signature is over this header."""
    return is_signed_by(PeerId(vote.signer), _vote_bytes(header), vote.signature)


def verify_certificate(
    header: Header, certificate: Sequence[Signature], validators: ValidatorSet, sender: PeerId
) -> None:
    """Raise `RemoteViolation` unless distinct validators with a quorum of power signed this header."""
    if header.chain != validators.chain or header.validators != validators.digest:
        raise RemoteViolation(
            sender, f"block of another chain or validator set: {header.chain!r}", code="foreign_block"
        )
    signers = {item.signer for item in certificate}
    if len(signers) != len(certificate) or not all(key in validators for key in signers):
        raise RemoteViolation(sender, "a certificate with a stranger or a key twice", code="bad_certificate")
    power = validators.power(signers)
    if power < validators.quorum:
        raise RemoteViolation(
            sender, f"certificate with power {power}, quorum is {validators.quorum}", code="bad_certificate"
        )
    if not all(is_vote(header, item) for item in certificate):
        raise RemoteViolation(
            sender, f"a certificate with a bad signature at height {header.height}", code="bad_certificate"
        )


def ops_root(operations: Sequence[SignedOp]) -> Digest:
    """Merkle root over the operations with their signatures."""
    return merkle.root([wire.encode(item) for item in operations])


def receipt_tree(outcomes: Sequence[Outcome]) -> merkle.Tree:
    """The tree under `Header.receipts_root`."""
    return merkle.Tree([wire.encode(item) for item in outcomes])


def verify_receipts(
    receipts: Receipts, validators: ValidatorSet, sender: PeerId
) -> list[tuple[Operation, SignedOp, Outcome]]:
    """What a certified block did with these operations. Raises `RemoteViolation` if any part does not verify.

    Signatures of the operations are not checked again: no quorum certifies an operation that fails them."""
    header = receipts.header
    verify_certificate(header, receipts.certificate, validators, sender)
    if len(receipts.operations) != len(receipts.receipts):
        raise RemoteViolation(
            sender, f"{len(receipts.operations)} operations, {len(receipts.receipts)} receipts", code="bad_receipt"
        )
    result = []
    for signed, receipt in zip(receipts.operations, receipts.receipts, strict=True):
        leaf = wire.encode(receipt.outcome)
        if not merkle.verify(header.receipts_root, leaf, receipt.index, header.count, receipt.path):
            raise RemoteViolation(sender, f"receipt {receipt.index} is not under its block's root", code="bad_receipt")
        checked = check(signed, validators.chain, sender, verified=True)
        if checked.op_id != receipt.outcome.op:
            raise RemoteViolation(sender, "a receipt for another operation", code="bad_receipt")
        result.append((checked.operation, signed, receipt.outcome))
    return result


def make_receipts(
    block: Block, outcomes: Sequence[Outcome], indexes: Sequence[int], tree: merkle.Tree
) -> list[Receipts]:
    """Receipts for the operations at these indexes, in as many messages as their size needs."""
    messages: list[Receipts] = []
    operations: list[SignedOp] = []
    receipts: list[Receipt] = []
    size = 0
    for index in indexes:
        operation, receipt = block.operations[index], Receipt(outcomes[index], index, tree.path(index))
        added = op_size(operation) + len(wire.encode(receipt))
        if operations and (size + added > RECEIPTS_BYTES_MAX or len(operations) == OPS_MAX):
            messages.append(Receipts(block.header, block.certificate, tuple(operations), tuple(receipts)))
            operations, receipts, size = [], [], 0
        operations.append(operation)
        receipts.append(receipt)
        size += added
    if operations:
        messages.append(Receipts(block.header, block.certificate, tuple(operations), tuple(receipts)))
    return messages


def op_size(signed: SignedOp) -> int:
    """An upper bound of an operation's encoded bytes, without encoding it."""
    return len(signed.body) + 32 + 128 * len(signed.signatures)


def check_block(block: Block, validators: ValidatorSet, sender: PeerId) -> list[Checked]:
    """Everything about a block that needs no state; its operations, decoded. Raises `RemoteViolation`."""
    verify_certificate(block.header, block.certificate, validators, sender)
    return check_operations(block.header, block.operations, validators.chain, sender, verified=True)


def check_operations(
    header: Header, operations: Sequence[SignedOp], chain: str, sender: PeerId, verified: bool
) -> list[Checked]:
    """Count, root and each operation (its signatures unless `verified`). Raises `RemoteViolation`."""
    if header.count != len(operations) or header.ops_root != ops_root(operations):
        raise RemoteViolation(sender, f"operations are not those of block {header.height}", code="bad_block")
    return [check(item, chain, sender, verified) for item in operations]


def decode_block(data: bytes, sender: PeerId) -> Block:
    """A stored block. Raises `RemoteViolation` for bytes that are none."""
    return wire.decode(data, block_decoder, sender, size_max=64 << 20)


def _vote_bytes(header: Header) -> bytes:
    return wire.signing_bytes(header.chain, "header", wire.encode(header))
