"""Whom an ordered operation concerns: they get its receipt at once, everybody else sees the block."""

from __future__ import annotations

from protocol.escrow_state import Escrow
from protocol.ledger import Checked, Ledger
from protocol.operations import (
    Absence,
    BeaconCommit,
    BeaconReveal,
    Bond,
    EscrowClose,
    EscrowExtend,
    EscrowOpen,
    Mint,
    Transfer,
    Unbond,
    WithdrawEnd,
    WithdrawExt,
)
from protocol.units import PeerId


def parties(ledger: Ledger, checked: Checked) -> set[PeerId]:
    """Signers, steward and provider. Owners are left out: a renter's key is no peer, whoever submitted for it is."""
    op = checked.operation
    found = set(checked.signers)
    match op:
        case EscrowOpen():
            found.discard(op.owner)
            found.add(op.steward)
        case EscrowExtend():
            found.discard(op.owner)
            escrow = ledger.escrows.get(op.escrow) or ledger.bygone.get(op.escrow)
            if escrow is not None:
                found.add(escrow.steward)
        case WithdrawExt() | Transfer() | Bond() | Unbond():
            found.discard(op.owner)
        case Absence():
            found.add(PeerId(op.peer))
        case Mint() | WithdrawEnd() | BeaconCommit() | BeaconReveal():
            pass
        case _:
            escrow = ledger.escrows.get(op.escrow) or ledger.bygone.get(op.escrow)
            if escrow is not None:
                found.discard(escrow.owner)
                found.add(escrow.steward)
                if isinstance(escrow, Escrow) and not isinstance(op, EscrowClose) and op.chunk in escrow.chunks:
                    found.add(escrow.chunks[op.chunk].provider)
    return {PeerId(key) for key in found}
