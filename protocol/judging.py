"""What a verdict does. Without a policy it moves money at once, with one it opens a held item (`protocol.holding`)."""

from __future__ import annotations

from protocol import carried, holding, penalties, tallies
from protocol.accounts import TREASURY
from protocol.errors import Refused
from protocol.escrow_state import ChunkLease, Escrow, LedgerState
from protocol.leases_ledger import Signers, find, free, not_signed, pay, require_state
from protocol.operations import Verdict, slash
from protocol.promises import move


def verdict(state: LedgerState, op: Verdict, op_id: bytes, signers: Signers) -> None:
    """A quorum has judged a claim."""
    escrow, lease = find(state, op)
    if not state.validators.is_quorum(signers):
        power, quorum = state.validators.power(signers), state.validators.quorum
        raise not_signed(f"validators with power {quorum}, has {power}")
    require_state(lease, "claimed")
    if state.policy is not None and state.policy.has_beacon and not lease.beacon:
        raise Refused(
            f"chunk {lease.chunk} epoch {lease.epoch} has no beacon yet",
            code="no_beacon",
            fix="Judge it when a beacon covers it.",
        )
    lease.output, lease.is_audited, lease.auditor, lease.code = op.output, op.is_audited, op.auditor, op.code
    for auditor in dict.fromkeys(op.faulted or ()):
        state.standing(auditor).faulted += 1
    if state.policy is None:
        _at_once(state, escrow, lease, op)
    elif op.outcome == "missing":
        _missing(state, escrow, lease, op)
    else:
        holding.hold(state, state.policy, escrow, lease, op)


def _at_once(state: LedgerState, escrow: Escrow, lease: ChunkLease, op: Verdict) -> None:
    standing = state.standing(lease.provider)
    note = f"chunk {lease.chunk} epoch {lease.epoch} audit"
    cover = 0
    if lease.evidence:
        evidence = lease.evidence if op.is_audited else 0
        cover = min(evidence, slash(lease.price, lease.collateral, op.outcome))
        penalties.pay_evidence(state, escrow, note, lease.assign, op.auditor, evidence - cover)
        lease.evidence = 0
    if op.outcome == "accept":
        standing.accepted += 1
        standing.consecutive_valid += 1
        standing.audited += op.is_audited
        standing.response_time_sum += lease.claimed_at - lease.assigned_at
        if op.is_audited and standing.probation:
            standing.probation -= 1
        lease.state, lease.outcome = "paid", "accept"
        pay(state, escrow, lease, lease.price)
        carried.pay(state, escrow, lease)
        return
    if op.outcome == "missing":
        _missing(state, escrow, lease, op)
        return
    standing.consecutive_valid = 0
    tallies.add_fault(standing, "wrong" if op.outcome == "fraud" else op.outcome)
    if op.outcome == "rejected":
        standing.probation = tallies.probation(state)
    free(state, escrow, lease, op.outcome, op.code)
    move(state, escrow, note, TREASURY, ("U", op.auditor), cover, "fee")
    if penalties.is_spoilt(op.outcome):  # Nobody knows whose part of the work it was.
        carried.void(state, escrow, lease)


def _missing(state: LedgerState, escrow: Escrow, lease: ChunkLease, op: Verdict) -> None:
    tallies.reset(state, lease.provider)
    state.standing(lease.provider).missing += 1
    free(state, escrow, lease, op.outcome, op.code)
