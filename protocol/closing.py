"""The end of an escrow: at once when nothing in it is open, else as soon as the last held decision is final.

A closed one is looked at for a while. Then its totals are kept, and nothing else. Spec: specs/07-escrow.md.
"""

from __future__ import annotations

from typing import Final

from protocol import carried
from protocol.accounts import Post
from protocol.escrow_state import Escrow, LedgerState, Line
from protocol.policy import UNBOND_TIME
from protocol.units import Micros

KEPT_TIME: Final = Micros(UNBOND_TIME)
"""µs that a closed escrow is kept whole: by then the stake of everybody who had a part in it may have left."""

KEPT_MIN: Final = 1_024
"""Closed escrows that are kept whole however old they are, the newest: a few kilobytes a chunk, for who asks late."""


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
        lease.tainted.clear()
    left = state.accounts.available(escrow.account)
    owner = ("U", escrow.owner)
    if left:
        state.accounts.apply([Post(escrow.account, owner, left)])
        escrow.lines.append(Line(state.time, escrow.account, owner, left, "refund", note))
    escrow.refunded = left
    escrow.is_closed = True
    state.retire(escrow)
    state.touched.add(("escrow", escrow.id, 0))
    state.closed.append((state.time, escrow.id))
    forget_oldest(state)


def forget_oldest(state: LedgerState) -> None:
    """Nothing is promised, held, leased or due in a closed escrow, and every operation on it is refused: what is left
    of it answers those operations as the whole of it did."""
    while len(state.closed) > KEPT_MIN and state.closed[0][0] + KEPT_TIME < state.time:
        state.forget(*state.closed.popleft())
