"""What the ledger does by itself when its clock passes a deadline: expire, release, close. Spec: specs/07-escrow.md."""

from __future__ import annotations

from heapq import heappop

from protocol import escrow as escrow_rules
from protocol.accounts import Post
from protocol.escrow_state import EXPIRE, RELEASE, LedgerState
from protocol.leases_ledger import free


def advance(state: LedgerState, time: int) -> None:
    """Move the ledger clock to `time` (never back) and do everything due, in order of (due time, rank, age).

    Each thing happens at `time`, not at its due time: a halted ledger expires nothing retroactively."""
    state.time = max(state.time, time)
    while state.due and state.due[0][0] <= state.time:
        _, rank, _, key, number, epoch = heappop(state.due)
        if rank == EXPIRE:
            _expire(state, key, number, epoch)
        elif rank == RELEASE:
            state.accounts.apply([Post(("B", key), ("U", key), number)])
        else:
            _close(state, key)


def _close(state: LedgerState, escrow_id: bytes) -> None:
    """Close an escrow whose deadline passed. An extended one is due again at its later deadline."""
    escrow = state.escrows[escrow_id]
    if not escrow.is_closed and state.time > escrow.deadline:
        escrow_rules.close(state, escrow, "deadline passed")


def _expire(state: LedgerState, escrow_id: bytes, chunk: int, epoch: int) -> None:
    """End a lease that is over its time: unclaimed counts against the provider, undecided against nobody."""
    escrow = state.escrows[escrow_id]
    lease = escrow.chunks[chunk]
    if lease.epoch != epoch:
        return
    if lease.state == "assigned" and state.time > lease.claim_by:
        standing = state.standing(lease.provider)
        standing.expired += 1
        standing.consecutive_valid = 0
        free(state, escrow, lease, "expired", "not claimed in time")
    elif lease.state == "claimed" and state.time > lease.verdict_by:
        free(state, escrow, lease, "undecided", "no verdict in time")
