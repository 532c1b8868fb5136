"""Shares of a price that wait for a chunk's end, of providers that handed it over before. Spec: specs/07-escrow.md.

A share is promised by the `Handover` that earned it, kept when the chunk gets its result, and taken back when that
turns out wrong or never comes.
"""

from __future__ import annotations

from protocol.accounts import FEES, Move, Pend, PostPend, VoidPend
from protocol.escrow_state import Carried, ChunkLease, Escrow, LedgerState, Line
from protocol.operations import commission

SHARE, COMMISSION = b"p", b"c"
"""Suffixes of the ids of a share's two promises. 33 bytes, so that no operation id (32) can name one."""


def promises(item: Carried) -> list[tuple[bytes, int, str]]:
    """(id, amount, kind of line when it is kept) of what a share has pended; empty ones left out."""
    fee = commission(item.amount)
    listed = ((item.handover + SHARE, item.amount - fee, "pay"), (item.handover + COMMISSION, fee, "commission"))
    return [part for part in listed if part[1] > 0]


def waiting(lease: ChunkLease) -> list[Carried]:
    """The shares of a chunk that still wait for its end."""
    return [item for item in lease.carried if not item.outcome]


def pend(state: LedgerState, escrow: Escrow, lease: ChunkLease, item: Carried) -> None:
    """Set a share aside. The escrow holds it free: it was part of the price of the lease that has just ended."""
    ends = {"pay": ("U", item.provider), "commission": FEES}
    state.accounts.apply([Pend(key, escrow.account, ends[kind], amount) for key, amount, kind in promises(item)])
    lease.carried.append(item)


def pay(state: LedgerState, escrow: Escrow, lease: ChunkLease) -> None:
    """The chunk has its result: everybody who brought it on gets his share."""
    for item in waiting(lease):
        moves: list[Move] = []
        for key, amount, kind in promises(item):
            pended = state.accounts.pending[key]
            moves.append(PostPend(key, amount))
            escrow.lines.append(Line(state.time, pended.debit, pended.credit, amount, kind, _note(lease, item, "paid")))
        state.accounts.apply(moves)
        fee = commission(item.amount)
        escrow.paid += item.amount - fee
        escrow.commission += fee
        item.outcome = "paid"


def void(state: LedgerState, escrow: Escrow, lease: ChunkLease) -> None:
    """The chunk's result is wrong, or will never come: the shares are the renter's again."""
    for item in waiting(lease):
        moves: list[Move] = []
        for key, amount, _ in promises(item):
            pended = state.accounts.pending[key]
            moves.append(VoidPend(key))
            note = _note(lease, item, "void")
            escrow.lines.append(Line(state.time, pended.credit, pended.debit, amount, "release", note))
        state.accounts.apply(moves)
        item.outcome = "void"
        state.touched.add(("chunk", escrow.id, lease.chunk))


def _note(lease: ChunkLease, item: Carried, what: str) -> str:
    return f"chunk {lease.chunk} epoch {item.epoch} handed over at {item.done_ppm / 10_000:g} %, {what}"
