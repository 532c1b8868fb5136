"""Every invariant of the ledger's money in one pass: accounts, escrows, leases, shares, held decisions (I1–I5)."""

from __future__ import annotations

from protocol import carried, held
from protocol.errors import LocalError
from protocol.escrow_state import Escrow, LedgerState
from protocol.leases_ledger import promises

_OP_ID_BYTES = 32
"""Promises with longer names belong to leases, shares and held decisions; the others are withdrawals."""


def check(state: LedgerState) -> None:
    """Raise `LocalError` naming the first invariant that does not hold, and the numbers that disagree."""
    state.accounts.check()
    promised: dict[bytes, int] = {}
    flights: dict[bytes, int] = {}
    held_by_escrow = _open_by_escrow(state)
    for escrow in state.escrows.values():
        _check_escrow(state, escrow, held_by_escrow.get(escrow.id, []))
        for lease in escrow.chunks.values():
            if lease.state in ("assigned", "claimed"):
                promised |= {key: amount for key, amount, _ in promises(lease)}
                flights[lease.provider] = flights.get(lease.provider, 0) + lease.price
            for item in carried.waiting(lease):
                promised |= {key: amount for key, amount, _ in carried.promises(item)}
    owed: dict[bytes, int] = {}
    for items in held_by_escrow.values():
        for one in items:
            promised |= held.promises(one)
            owed[one.provider] = owed.get(one.provider, 0) + one.price * one.is_pay
    pending = {key: pend.amount for key, pend in state.accounts.pending.items() if len(key) > _OP_ID_BYTES}
    if promised != pending:
        raise LocalError("promises and what is running or held differ", code="I4")
    if {key: amount for key, amount in flights.items() if amount} != state.flight:
        raise LocalError("what providers have in flight is not what they have leased", code="I4")
    if {key: amount for key, amount in owed.items() if amount} != state.held_pay:
        raise LocalError("the pay that is held for providers is not that of their results", code="I4")


def _open_by_escrow(state: LedgerState) -> dict[bytes, list[held.Held]]:
    """Open items by escrow; all ways to find them agree."""
    found: dict[bytes, list[held.Held]] = {}
    for one in state.held.values():
        if not one.end:
            found.setdefault(one.escrow, []).append(one)
    names = {held.name(one) for items in found.values() for one in items}
    listed = {held.name(one) for items in state.held_of.values() for one in items}
    if not names == listed == {key for items in state.held_in.values() for key in items}:
        raise LocalError("open items and the lists of their providers or escrows differ", code="I4")
    return found


def _check_escrow(state: LedgerState, escrow: Escrow, items: list[held.Held]) -> None:
    running = [lease for lease in escrow.chunks.values() if lease.state in ("assigned", "claimed")]
    shares = [item for lease in escrow.chunks.values() for item in carried.waiting(lease)]
    account = state.accounts[escrow.account]
    pay = [item.price for item in items if item.is_pay]
    due = sum(lease.price + lease.evidence for lease in running) + sum(item.amount for item in shares)
    due += sum(pay) + sum(item.evidence for item in items)
    if escrow.leased != len(running) or escrow.held != len(items) or account.debits_pending != due:
        raise LocalError(
            f"escrow {escrow.id.hex()} pends {account.debits_pending} for {len(running)} leases, "
            f"{len(shares)} shares and {len(items)} held decisions",
            code="I4",
        )
    if escrow.is_closed and (running or shares or items or account.available):
        raise LocalError(f"closed escrow {escrow.id.hex()} holds {account.available}", code="I5")
    if escrow.is_closing and not escrow.is_closed and (running or not items):
        raise LocalError(f"escrow {escrow.id.hex()} should have closed, or not begun to", code="I5")
    spent = escrow.paid + escrow.commission + escrow.refunded + escrow.evidence
    if escrow.cap - spent != account.available + account.debits_pending:
        raise LocalError(
            f"escrow {escrow.id.hex()} spent {spent} of {escrow.cap}, holds {account.encode()!r}", code="I3"
        )
