"""What a verdict does. Without a policy it moves money at once, with one it opens a held item (`protocol.holding`)."""

from __future__ import annotations

from protocol import carried, holding, inheritance, penalties, tallies
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
    _check_auditors(escrow, lease, op)
    accused = inheritance.blamed(lease, op)
    lease.output, lease.is_audited, lease.auditor, lease.code = op.output, op.is_audited, op.auditor, op.code
    for auditor in dict.fromkeys(op.faulted or ()):
        state.standing(auditor).faulted += 1
    if state.policy is None and accused:
        _blame_at_once(state, escrow, lease, op, accused)
    elif state.policy is None:
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
        penalties.pay_evidence(state, escrow, note, lease.assign, _auditors(op), evidence - cover)
        lease.evidence = 0
    if op.outcome == "accept":
        standing.accepted += 1
        standing.audited += op.is_audited
        standing.response_time_sum += lease.claimed_at - lease.assigned_at
        if op.is_audited and standing.probation:
            standing.probation -= 1
        if tallies.is_unheard(op.is_audited, op.code):
            standing.probation = max(standing.probation, 1)
        else:
            standing.consecutive_valid += 1
        lease.state, lease.outcome = "paid", "accept"
        pay(state, escrow, lease, lease.price)
        carried.pay(state, escrow, lease)
        return
    if op.outcome == "missing":
        _missing(state, escrow, lease, op)
        return
    _fault_at_once(state, lease.provider, op.outcome)
    free(state, escrow, lease, op.outcome, op.code)
    penalties.pay_auditors(state, escrow, note, TREASURY, _auditors(op), cover)
    if penalties.is_spoilt(op.outcome):  # Nobody knows whose part of the work it was.
        carried.void(state, escrow, lease)


def _blame_at_once(state: LedgerState, escrow: Escrow, lease: ChunkLease, op: Verdict, accused: bytes) -> None:
    """The claim is void. Who signed for the bad units loses what its collateral for this lease would have been, as far
    as its stake is free."""
    note = f"chunk {lease.chunk} epoch {lease.epoch} for epoch {op.blamed or 0}"
    evidence, lease.evidence = lease.evidence, 0
    free(state, escrow, lease, inheritance.VOID, op.code)
    _fault_at_once(state, accused, op.outcome)
    lease.former.pop(op.blamed or 0)
    fine = min(slash(lease.price, lease.price, op.outcome), state.accounts.available(("S", accused)))
    move(state, escrow, note, ("S", accused), TREASURY, fine, "slash")
    escrow.slashed += fine
    owed = evidence if op.is_audited else 0
    cover = min(owed, fine)
    penalties.pay_evidence(state, escrow, note, lease.assign, _auditors(op), owed - cover)
    penalties.pay_auditors(state, escrow, note, TREASURY, _auditors(op), cover)
    carried.void(state, escrow, lease)


def _fault_at_once(state: LedgerState, provider: bytes, outcome: str) -> None:
    standing = state.standing(provider)
    standing.consecutive_valid = 0
    tallies.add_fault(standing, "wrong" if outcome == "fraud" else outcome)
    if outcome == "rejected":
        standing.probation = tallies.probation(state)


def _auditors(op: Verdict) -> tuple[bytes, ...]:
    return (op.auditor, *(op.agreed or ()))


def _check_auditors(escrow: Escrow, lease: ChunkLease, op: Verdict) -> None:
    """Whoever shares in the money for an audit is somebody else than the others, and than anybody with a side."""
    if not op.agreed:
        return
    auditors = set(_auditors(op))
    sides = {lease.provider, lease.inherited.get(op.blamed or 0, lease.provider), escrow.steward, escrow.owner}
    if not op.is_audited or len(auditors) <= len(op.agreed) or auditors & (sides | set(op.faulted or ())):
        raise Refused(
            "auditors who share are distinct, of no party, and not refuted",
            code="bad_auditors",
            fix="Name each auditor that agreed once, and nobody else.",
        )


def _missing(state: LedgerState, escrow: Escrow, lease: ChunkLease, op: Verdict) -> None:
    tallies.reset(state, lease.provider)
    state.standing(lease.provider).missing += 1
    free(state, escrow, lease, op.outcome, op.code)
