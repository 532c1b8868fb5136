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

UNHEARD: Final = frozenset({"audit_failed", "audit_late", "no_auditor"})
"""Codes of accepted results whose audit was due and that no auditor answered for: the provider's next one is audited in
any case, and they add nothing to its run. Else silencing auditors would pay."""

PROBATION: Final = Policy().probation
"""Results on probation in a network without a policy."""


def add_fault(standing: Standing, finding: str) -> None:
    """One more of a kind."""
    _change(standing, finding, 1)


def count(state: LedgerState, held: Held) -> None:
    """Enter the finding in the provider's standing, as the newest."""
    standing = state.standing(held.provider)
    state.counts += 1
    held.counted, held.is_barred = state.counts, False
    if held.finding == "accept":
        _accept(standing, held, 1)
        held.streak = 0 if is_unheard(held.is_audited, held.code) else 1
        standing.consecutive_valid += held.streak
        held.is_eased = held.is_audited and standing.probation > 0
        held.is_postponed = not (held.streak or standing.probation)
        standing.probation += held.is_postponed - held.is_eased
        return
    add_fault(standing, held.finding)
    held.streak, standing.consecutive_valid = standing.consecutive_valid, 0
    _begin_probation(state, held)


def correct(state: LedgerState, held: Held, finding: str) -> None:
    """Put another finding in place of the one that was entered.

    An accepted result takes the place of a fault as if it had stood there from the beginning. A fault that was found
    late counts from now on: what came since does not excuse it."""
    if held.finding == "accept":
        _take_back(state, held)
        held.finding = finding
        count(state, held)
        return
    standing = state.standing(held.provider)
    _change(standing, held.finding, -1)
    if held.finding == "rejected":
        _restore_probation(state, held)
    held.finding = finding
    if finding == "accept":
        _accept(standing, held, 1)
        own = 0 if held.is_barred or held.blamed else 1
        _lengthen(state, held, held.streak + own)
        held.streak = own
    else:
        add_fault(standing, finding)
        _begin_probation(state, held)


def reset(state: LedgerState, provider: bytes) -> None:
    """A fault that nobody can appeal: whatever is taken back later does not bring the run back."""
    state.standing(provider).consecutive_valid = 0
    for held in state.held_of.get(provider, ()):
        held.streak, held.is_barred = 0, True


def make_final(state: LedgerState, held: Held) -> None:
    """A fault stands: what was entered before it can no longer change the run."""
    for item in state.held_of.get(held.provider, ()):
        if item.counted < held.counted:
            item.streak, item.is_barred = 0, True
            if held.finding == "rejected" and item.finding == "rejected":
                item.probation = probation(state)


def is_unheard(is_audited: bool, code: str) -> bool:
    """Whether an accepted result owes an audit."""
    return not is_audited and code in UNHEARD


def probation(state: LedgerState) -> int:
    """Results on probation after a rejection."""
    return PROBATION if state.policy is None else state.policy.probation


def _take_back(state: LedgerState, held: Held) -> None:
    """An accepted result is none."""
    standing = state.standing(held.provider)
    _accept(standing, held, -1)
    _lengthen(state, held, -held.streak)
    standing.probation += held.is_eased
    if held.is_postponed and standing.probation == 1:  # More, or none, is of something that came later.
        standing.probation = 0
    held.is_eased = held.is_postponed = False


def _accept(standing: Standing, held: Held, by: int) -> None:
    """A result of its own; to be cleared of an earlier lease's units is none."""
    if held.blamed:
        return
    standing.accepted += by
    standing.audited += by * held.is_audited
    standing.response_time_sum += by * held.response


def _lengthen(state: LedgerState, held: Held, by: int) -> None:
    """Change the run that the item stands in: the one before the next open fault, or the present one."""
    later = [item for item in _faults(state, held.provider) if item.counted > held.counted]
    if later:
        later[0].streak += by
    else:
        state.standing(held.provider).consecutive_valid += by


def _begin_probation(state: LedgerState, held: Held) -> None:
    if held.finding == "rejected":
        standing = state.standing(held.provider)
        held.probation, standing.probation = standing.probation, probation(state)


def _restore_probation(state: LedgerState, held: Held) -> None:
    """What was left before the rejection, less what has been served since."""
    whole, standing = probation(state), state.standing(held.provider)
    later = [item for item in _faults(state, held.provider) if item.finding == "rejected"]
    later = [item for item in later if item.counted > held.counted]
    if later:
        later[0].probation = max(0, held.probation - (whole - later[0].probation))
    else:
        standing.probation = max(0, held.probation - (whole - standing.probation))


def _faults(state: LedgerState, provider: bytes) -> list[Held]:
    """Open items that stand as faults, in the order in which they were entered."""
    faults = [item for item in state.held_of.get(provider, ()) if item.finding != "accept"]
    return sorted(faults, key=lambda item: item.counted)


def _change(standing: Standing, finding: str, by: int) -> None:
    setattr(standing, finding, getattr(standing, finding) + by)
