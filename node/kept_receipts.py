"""What the ledger did to one job, out of the receipts that this node was sent and kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from node.parts import Parts
from protocol import wire
from protocol.errors import RemoteViolation
from protocol.ledger import operation_decoder
from protocol.messages import Header, Receipts
from protocol.operations import Operation
from protocol.units import MIB

RECEIPT_BYTES_MAX: Final = 16 * MIB
"""Bytes of the receipts of one block that concern one job."""

_receipts: Final = wire.decoder(Receipts)


def applied(parts: Parts, escrow: bytes) -> Iterator[tuple[Header, Operation]]:
    """Operations that were applied, in the ledger's order, each with the header of its block."""
    me = parts.identity.peer
    for _, value in parts.records.scan(f"receipt/{escrow.hex()}/"):
        try:
            one = wire.decode(value, _receipts, me, RECEIPT_BYTES_MAX)
            listed = [wire.decode(signed.body, operation_decoder, me) for signed in one.operations]
        except RemoteViolation:
            continue  # Of another version of this program.
        if all(receipt.outcome.status == "applied" for receipt in one.receipts):
            yield from ((one.header, operation) for operation in listed)
