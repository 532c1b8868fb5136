"""The end of an escrow: at once when nothing in it is open, else as soon as the last held decision is final."""

from __future__ import annotations

from protocol import carried
from protocol.accounts import Post
from protocol.escrow_state import Escrow, LedgerState, Line


def begin(state: LedgerState, escrow: Escrow, note: str) -> None:
    """Close an escrow in which nothing is leased, or mark it: while money is held for a dispute it stays."""
    if not escrow.held:
        close(state, escrow, note)
        return
    escrow.is_closing = True
    for lease in escrow.chunks.values():
        if lease.state != "paid":
            carried.void(state, escrow, lease)
    state.touched.add(("escrow", escrow.id, 0))


def close(state: LedgerState, escrow: Escrow, note: str) -> None:
    """Refund and shut an escrow in which nothing is leased. Shares of chunks that nobody finished are taken back."""
    for lease in escrow.chunks.values():
        carried.void(state, escrow, lease)
        lease.former.clear()
    left = state.accounts.available(escrow.account)
    owner = ("U", escrow.owner)
    if left:
        state.accounts.apply([Post(escrow.account, owner, left)])
        escrow.lines.append(Line(state.time, escrow.account, owner, left, "refund", note))
    escrow.refunded = left
    escrow.is_closed = True
    state.retire(escrow)
    state.touched.add(("escrow", escrow.id, 0))
