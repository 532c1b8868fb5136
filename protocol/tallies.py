"""What a held decision adds to a provider's standing at once, and how a ruling takes exactly that back.

A fault ends the run of valid results, so it remembers how long the run was. Several may be open at a time; each is
taken back as if it had never been counted.
"""

from __future__ import annotations

from typing import Final

from protocol.escrow_state import LedgerState, Standing
from protocol.held import Held
from protocol.policy import Policy

FAULTS: Final = ("wrong", "fraud", "severe", "rejected", "withheld", "missing")
"""Findings, each with a counter of its name in `Standing`."""

PROBATION: Final = Policy().probation
"""Results on probation in a network without a policy."""


def add_fault(standing: Standing, finding: str) -> None:
    """One more of a kind."""
    _change(standing, finding, 1)


def count(state: LedgerState, held: Held) -> None:
    """Enter the finding in the provider's standing."""
    standing = state.standing(held.provider)
    state.counts += 1
    held.counted, held.is_eased = state.counts, False
    if held.finding == "accept":
        standing.accepted += 1
        standing.audited += held.is_audited
        standing.response_time_sum += held.response
        standing.consecutive_valid += 1
        held.streak = 1
        if held.is_audited and standing.probation:
            standing.probation -= 1
            held.is_eased = True
        return
    add_fault(standing, held.finding)
    held.streak, standing.consecutive_valid = standing.consecutive_valid, 0
    if held.finding == "rejected":
        held.probation, standing.probation = standing.probation, probation(state)


def uncount(state: LedgerState, held: Held) -> None:
    """Take the finding out again: what is left is as if it had never been entered."""
    standing = state.standing(held.provider)
    later = [item for item in _faults(state, held.provider) if item.counted > held.counted]
    change = held.streak
    if held.finding == "accept":
        change = -held.streak
        standing.accepted -= 1
        standing.audited -= held.is_audited
        standing.response_time_sum -= held.response
        standing.probation += held.is_eased
    else:
        _change(standing, held.finding, -1)
    if later:
        later[0].streak += change
    else:
        standing.consecutive_valid += change
    if held.finding == "rejected":
        _restore_probation(state, held, [item for item in later if item.finding == "rejected"])


def reset(state: LedgerState, provider: bytes) -> None:
    """A fault that nobody can appeal: whatever is taken back later does not bring the run back."""
    state.standing(provider).consecutive_valid = 0
    for held in state.held_of.get(provider, ()):
        held.streak = 0


def make_final(state: LedgerState, held: Held) -> None:
    """A fault stands: what was entered before it can no longer change the run."""
    for item in state.held_of.get(held.provider, ()):
        if item.counted < held.counted:
            item.streak = 0
            if held.finding == "rejected" and item.finding == "rejected":
                item.probation = probation(state)


def probation(state: LedgerState) -> int:
    """Results on probation after a rejection."""
    return PROBATION if state.policy is None else state.policy.probation


def _restore_probation(state: LedgerState, held: Held, later: list[Held]) -> None:
    whole, standing = probation(state), state.standing(held.provider)
    if later:
        later[0].probation = max(0, held.probation - (whole - later[0].probation))
    else:
        standing.probation = max(0, held.probation - (whole - standing.probation))


def _faults(state: LedgerState, provider: bytes) -> list[Held]:
    open_ones = [item for item in state.held_of.get(provider, ()) if item.finding != "accept"]
    return sorted(open_ones, key=lambda item: item.counted)


def _change(standing: Standing, finding: str, by: int) -> None:
    setattr(standing, finding, getattr(standing, finding) + by)
