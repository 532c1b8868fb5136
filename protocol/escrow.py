"""Applies one operation to the ledger state: who must sign, when it is valid, what it moves. Spec: specs/07-escrow.md.

An operation has its whole effect or none. Signatures are verified before it gets here; `signers` are their keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from protocol import absences, beacons, closing, disputes, judging, leases_ledger
from protocol.accounts import RESERVE, Pend, Post, PostPend, VoidPend
from protocol.errors import Refused
from protocol.escrow_state import CLOSE, RELEASE, Escrow, LedgerState, Line
from protocol.genesis import SUPPLY_MAX
from protocol.leases_ledger import Signers, not_signed
from protocol.operations import (
    Absence,
    Appeal,
    Assign,
    BeaconCommit,
    BeaconReveal,
    Bond,
    Claim,
    EscrowClose,
    EscrowExtend,
    EscrowOpen,
    Fence,
    Handover,
    Mint,
    Operation,
    Ruling,
    Settle,
    Surrender,
    Transfer,
    Unbond,
    Verdict,
    WithdrawEnd,
    WithdrawExt,
)  # fmt: skip
from protocol.policy import UNBOND_TIME

Sequenced = WithdrawExt | Transfer | Bond | Unbond | EscrowOpen | EscrowExtend
"""Operations that move free money: ordered by (owner, lane, sequence)."""
SEQUENCED: Final = (WithdrawExt, Transfer, Bond, Unbond, EscrowOpen, EscrowExtend)


def admit(state: LedgerState, op: Sequenced, signers: Signers) -> None:
    """Check the owner's signature and use up the sequence: it is spent even when what follows refuses."""
    if op.owner not in signers:
        raise not_signed("the owner")
    key = (op.owner, op.lane)
    expected = state.lanes.get(key, 0)
    if op.sequence != expected:
        raise Refused(
            f"lane {op.lane} expects sequence {expected}, not {op.sequence}",
            code="sequence_used" if op.sequence < expected else "sequence_gap",
            fix=f"Sign it again with sequence {expected}.",
            numbers={"expected": expected, "given": op.sequence},
        )
    state.lanes[key] = expected + 1
    state.touched.add(("lane", op.owner, op.lane))


def mint(state: LedgerState, op: Mint, op_id: bytes, signers: Signers) -> None:
    """A deposit that a quorum saw."""
    _require_quorum(state, signers)
    if op.reference in state.references:
        raise Refused(f"deposit {op.reference.hex()[:16]} was minted before", code="reference_used")
    supply = -state.accounts.available(RESERVE)
    if supply + op.amount > SUPPLY_MAX:
        raise Refused(f"{supply} units exist, {op.amount} more exceed {SUPPLY_MAX}", code="over_supply")
    state.accounts.apply([Post(RESERVE, ("U", op.to), op.amount)])
    state.references.add(op.reference)
    state.touched.add(("reference", op.reference, 0))


def withdraw(state: LedgerState, op: WithdrawExt, op_id: bytes, signers: Signers) -> None:
    """Money on its way out, promised to the reserve."""
    state.accounts.apply([Pend(op_id, ("U", op.owner), RESERVE, op.amount)])


def withdraw_end(state: LedgerState, op: WithdrawEnd, op_id: bytes, signers: Signers) -> None:
    """A quorum saw the money leave, or fail to. Only withdrawals have promises named by 32 bytes."""
    _require_quorum(state, signers)
    pend = state.accounts.pending.get(op.withdrawal)
    if pend is None:
        raise Refused(f"no open withdrawal {op.withdrawal.hex()[:16]}", code="no_withdrawal")
    state.accounts.apply([PostPend(pend.id, pend.amount) if op.is_paid else VoidPend(pend.id)])


def transfer(state: LedgerState, op: Transfer, op_id: bytes, signers: Signers) -> None:
    """Free money to another user."""
    if op.to == op.owner:
        raise Refused("owner and receiver are the same", code="same_account", fix="Name another receiver.")
    state.accounts.apply([Post(("U", op.owner), ("U", op.to), op.amount)])


def bond(state: LedgerState, op: Bond, op_id: bytes, signers: Signers) -> None:
    """Free money becomes stake."""
    state.accounts.apply([Post(("U", op.owner), ("S", op.owner), op.amount)])


def unbond(state: LedgerState, op: Unbond, op_id: bytes, signers: Signers) -> None:
    """Stake leaves for `UNBOND_TIME`, then is free by itself. Pended collateral is not available and cannot leave."""
    state.accounts.apply([Post(("S", op.owner), ("B", op.owner), op.amount)])
    state.schedule(state.time + UNBOND_TIME, RELEASE, op.owner, op.amount)


def escrow_open(state: LedgerState, op: EscrowOpen, op_id: bytes, signers: Signers) -> None:
    """Set `cap` aside for a job."""
    if op.deadline <= state.time:
        raise Refused(
            f"deadline {op.deadline} is not after now, {state.time}",
            code="bad_times",
            fix="Take the time from the ledger clock.",
            numbers={"now": state.time, "deadline": op.deadline},
        )
    escrow = Escrow(op_id, op.job, op.owner, op.steward, op.cap, op.spec, op.deadline)
    state.accounts.apply([Post(("U", op.owner), escrow.account, op.cap)])
    escrow.lines.append(Line(state.time, ("U", op.owner), escrow.account, op.cap, "fund", "escrow opened"))
    state.escrows[op_id] = escrow
    state.touched.add(("escrow", op_id, 0))
    state.schedule(op.deadline + 1, CLOSE, op_id)


def escrow_extend(state: LedgerState, op: EscrowExtend, op_id: bytes, signers: Signers) -> None:
    """More money, more time, or both. Only the renter can: the steward signs nothing that costs the renter more."""
    escrow = state.open_escrow(op.escrow)
    if escrow.owner != op.owner:
        raise Refused(
            f"escrow {op.escrow.hex()[:16]} belongs to {escrow.owner.hex()[:16]}, not to {op.owner.hex()[:16]}",
            code="not_owner",
            fix="Let its owner sign.",
        )
    if op.deadline < escrow.deadline:
        raise Refused(
            f"deadline {op.deadline} is before the escrow's, {escrow.deadline}",
            code="bad_times",
            fix="Keep the deadline, or give a later one.",
            numbers={"deadline": escrow.deadline, "given": op.deadline},
        )
    if op.amount == 0 and op.deadline == escrow.deadline:
        raise Refused("neither money nor time is added", code="no_change", fix="Add an amount, or a later deadline.")
    if op.amount:
        state.accounts.apply([Post(("U", op.owner), escrow.account, op.amount)])
        escrow.lines.append(Line(state.time, ("U", op.owner), escrow.account, op.amount, "fund", "escrow extended"))
    escrow.cap += op.amount
    if op.deadline > escrow.deadline:
        escrow.deadline = op.deadline
        state.schedule(op.deadline + 1, CLOSE, escrow.id)
    state.touched.add(("escrow", escrow.id, 0))


def escrow_close(state: LedgerState, op: EscrowClose, op_id: bytes, signers: Signers) -> None:
    """What is left goes back to the renter."""
    escrow = state.open_escrow(op.escrow)
    if escrow.steward not in signers and escrow.owner not in signers:
        raise not_signed("the steward or the renter")
    if escrow.leased:
        raise Refused(
            f"{escrow.leased} chunks are still leased",
            code="leases_open",
            fix="Close again when they have ended.",
            numbers={"leased": escrow.leased},
        )
    closing.begin(state, escrow, "closed by its steward")


def _require_quorum(state: LedgerState, signers: Signers) -> None:
    if not state.validators.is_quorum(signers):
        raise not_signed(f"validators with power {state.validators.quorum}, has {state.validators.power(signers)}")


T = TypeVar("T", bound=Operation)
Handler = Callable[[LedgerState, T, bytes, Signers], None]
_HANDLERS: dict[type, Callable[[LedgerState, Operation, bytes, Signers], None]] = {}


def _on(kind: type[T], handler: Handler[T]) -> None:
    _HANDLERS[kind] = handler  # type: ignore[assignment]  # The key says which operation the handler gets.


_on(Mint, mint)
_on(WithdrawExt, withdraw)
_on(WithdrawEnd, withdraw_end)
_on(Transfer, transfer)
_on(Bond, bond)
_on(Unbond, unbond)
_on(EscrowOpen, escrow_open)
_on(EscrowExtend, escrow_extend)
_on(EscrowClose, escrow_close)
_on(Assign, leases_ledger.assign)
_on(Claim, leases_ledger.claim)
_on(Surrender, leases_ledger.surrender)
_on(Handover, leases_ledger.handover)
_on(Fence, leases_ledger.fence)
_on(Settle, leases_ledger.settle)
_on(Verdict, judging.verdict)
_on(Appeal, disputes.appeal)
_on(Ruling, disputes.ruling)
_on(BeaconCommit, beacons.commit_part)
_on(BeaconReveal, beacons.reveal_part)
_on(Absence, absences.absence)


def apply_operation(state: LedgerState, op: Operation, op_id: bytes, signers: Signers) -> None:
    """The whole effect of one authorised operation at `state.time`. Raises `Refused` and changes nothing.

    Sequences are `admit`ted by the caller beforehand, because a refusal after that is remembered."""
    _HANDLERS[type(op)](state, op, op_id, signers)
