"""What the ledger does by itself when its clock passes a deadline: expire, release, close, pay what was held.

Spec: specs/07-escrow.md, specs/32-economics.md."""

from __future__ import annotations

from heapq import heappop
from typing import Final

from protocol import beacons, closing, disputes, holding, tallies
from protocol.accounts import Post
from protocol.escrow_state import BEACON, CLOSE, EXPIRE, HOLD, RELEASE, LedgerState
from protocol.leases_ledger import free
from protocol.units import HOUR, Micros

RELEASE_AGAIN: Final = Micros(HOUR)
"""Stake that is promised to the treasury when it would leave is looked at again after this time, µs."""


def advance(state: LedgerState, time: int) -> None:
    """Move the ledger clock to `time` (never back) and do everything due, in order of (due time, rank, age).

    Each thing happens at `time`, not at its due time: a halted ledger expires nothing retroactively."""
    state.time = max(state.time, time)
    while state.due and state.due[0][0] <= state.time:
        _, rank, _, key, number, epoch = heappop(state.due)
        if rank == EXPIRE:
            _expire(state, key, number, epoch)
        elif rank == RELEASE:
            _release(state, key, number)
        elif rank == CLOSE:
            _close(state, key)
        elif rank == HOLD:
            holding.ripen(state, key)
        elif rank == BEACON:
            beacons.expire(state, number)
        else:
            disputes.lapse(state, key, number)


def _release(state: LedgerState, owner: bytes, amount: int) -> None:
    """Unbound stake becomes free money; not what a slash has taken, and not yet what one may take."""
    leaving = ("B", owner)
    due = min(amount, state.accounts.balance(leaving))
    free_now = min(due, state.accounts.available(leaving))
    if free_now:
        state.accounts.apply([Post(leaving, ("U", owner), free_now)])
    if due > free_now:
        state.schedule(state.time + RELEASE_AGAIN, RELEASE, owner, due - free_now)


def _close(state: LedgerState, escrow_id: bytes) -> None:
    """Close an escrow whose deadline passed. An extended one is due again at its later deadline."""
    escrow = state.escrows.get(escrow_id)
    if escrow is None:
        return
    if not escrow.is_closed and not escrow.is_closing and state.time > escrow.deadline:
        closing.begin(state, escrow, "deadline passed")


def _expire(state: LedgerState, escrow_id: bytes, chunk: int, epoch: int) -> None:
    """End a lease that is over its time: unclaimed counts against the provider, undecided against nobody."""
    escrow = state.escrows.get(escrow_id)
    lease = escrow.chunks[chunk] if escrow is not None else None
    if escrow is None or lease is None or lease.epoch != epoch:
        return
    if lease.state == "assigned" and state.time > lease.claim_by:
        standing = state.standing(lease.provider)
        standing.expired += 1
        tallies.reset(state, lease.provider)
        free(state, escrow, lease, "expired", "not claimed in time")
    elif lease.state == "claimed" and state.time > lease.verdict_by:
        free(state, escrow, lease, "undecided", "no verdict in time")
