"""The books of one job, kept again by the ledger's own rules from that job's certified operations alone.

For networks with a policy, where pay waits, rulings replace findings and escrows close by themselves. What a provider
has beside the collateral of this job is in no operation of it: see `unknown`. Spec: specs/32-economics.md.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from protocol import automatic
from protocol.accounts import RESERVE, AccountKey, Post
from protocol.carried import waiting
from protocol.escrow import apply_operation
from protocol.escrow_state import POSTED_KINDS, Escrow, LedgerState
from protocol.genesis import Genesis
from protocol.held import Held
from protocol.operations import Appeal, Assign, EscrowExtend, EscrowOpen, Operation
from protocol.penalties import note_of
from protocol.policy import Policy

BY_STAKE: Final = frozenset({"fraud", "severe", "withheld"})
"""Findings whose price is a share of all stake of the provider."""

_AFTER_ALL: Final = "accept after all"


class JobBooks:
    """A ledger with one escrow in it. Whoever pays in has what it pays, whoever is leased to has its collateral."""

    def __init__(self, genesis: Genesis, escrow: bytes) -> None:
        policy = Policy() if genesis.policy is UNSET else genesis.policy
        alone = replace(policy, has_beacon=False, has_exposure_cap=False)
        self._state = LedgerState(genesis.chain, genesis.validator_set, genesis.time, alone)
        self._id = escrow
        self.unexplained = 0
        """Smallest units that the escrow had beyond what this job's operations explain."""

    @property
    def escrow(self) -> Escrow | None:
        return self._state.escrows.get(self._id)

    @property
    def held(self) -> list[Held]:
        """Every decision that was held, oldest first."""
        return list(self._state.held.values())

    def advance(self, time: int) -> None:
        """Let pass what passes by itself until `time`, µs."""
        self._sweep()
        automatic.advance(self._state, time)

    def order(self, operation: Operation, op_id: bytes, signers: frozenset[bytes], time: int) -> None:
        """An operation that was applied in a block of this time. `Refused` when it cannot have been."""
        self.advance(time)
        self._sweep()
        match operation:
            case EscrowOpen(owner=owner, cap=cap):
                self._give(("U", owner), cap)
            case EscrowExtend(owner=owner, amount=amount):
                self._give(("U", owner), amount)
            case Assign(provider=provider, collateral=collateral):
                self._give(("S", provider), collateral)
                self._explain(operation.price + (operation.evidence or 0))
            case Appeal(appellant=appellant, bond=bond):
                self._give(("U", appellant), bond)
            case _:
                pass
        apply_operation(self._state, operation, op_id, signers)

    def _give(self, key: AccountKey, amount: int) -> None:
        if amount > 0:
            self._state.accounts.apply([Post(RESERVE, key, amount)])

    def _explain(self, wanted: int) -> None:
        """The ledger applied a lease, so the escrow had the money: a fraud in another job has set some free."""
        escrow = self.escrow
        if escrow is None:
            return
        short = wanted - self._state.accounts.available(escrow.account)
        if short > 0:
            self.unexplained += short
            self._give(escrow.account, short)

    def _sweep(self) -> None:
        """Stake that is promised to nothing here may have left: a finding takes what is certain."""
        accounts = self._state.accounts
        for key in list(accounts):
            left = accounts.available(key) if key[0] == "S" else 0
            if left > 0:
                accounts.apply([Post(key, RESERVE, left)])

    # ── what came of it ──────────────────────────────────────────────────────────────────────────────────────────────
    def pending(self) -> tuple[int, int, int]:
        """(shares that wait for their chunk, pay and evidence that is held, until when), smallest units and µs."""
        escrow = self.escrow
        if escrow is None:
            return 0, 0, 0
        shares = sum(item.amount for lease in escrow.chunks.values() for item in waiting(lease))
        open_items = [item for item in self.held if not item.end]
        held = sum(item.price * item.is_pay + item.evidence for item in open_items)
        until = max((max(item.until, item.rule_by) for item in open_items), default=0)
        return shares, held, until

    def moved(self) -> dict[AccountKey, int]:
        """What every account gained (+) or gave (-) by this job; the sum is zero."""
        found: dict[AccountKey, int] = {}
        for line in self.escrow.lines if self.escrow is not None else ():
            if line.kind in POSTED_KINDS:
                found[line.debit] = found.get(line.debit, 0) - line.amount
                found[line.credit] = found.get(line.credit, 0) + line.amount
        return {key: amount for key, amount in found.items() if amount}

    def paid(self, chunk: int, epoch: int) -> tuple[int, int]:
        """(to the provider, commission) of one judged lease until now."""
        item = next((one for one in self.held if (one.chunk, one.epoch) == (chunk, epoch)), None)
        if item is None or self.escrow is None:
            return 0, 0
        lines = [line for line in self.escrow.lines if line.note in (note_of(item, "paid"), note_of(item, _AFTER_ALL))]
        mine = [line for line in lines if line.kind == "pay" and line.credit == ("U", item.payee)]
        fee = sum(line.amount for line in lines if line.kind == "commission")
        return sum(line.amount for line in mine), fee

    def unknown(self) -> list[str]:
        """What moved, or may have, and is in no operation of this job."""
        said = []
        for item in self.held:
            where = f"chunk {item.chunk} epoch {item.epoch}"
            if is_by_stake(item):
                said.append(f"{where}: {item.finding} takes stake beside the collateral, which is not shown here")
            if is_by_stake(item) and item.finding == item.verdict and self._evidence(item) > 0:
                said.append(f"{where}: the escrow paid {self._evidence(item)} units for evidence at most; what the "
                            "slash covers it did not")  # fmt: skip
            if item.faulted:
                said.append(f"{where}: what {len(item.faulted)} refuted auditors lost of their stake is not shown here")
        if self.unexplained:
            said.append(f"{self.unexplained} units came free by what happened in another job")
        return said

    def _evidence(self, item: Held) -> int:
        """What the escrow pays, or paid, for the audit of a held claim."""
        lines = self.escrow.lines if self.escrow is not None else ()
        note = note_of(item, "audit")
        return item.evidence or sum(line.amount for line in lines if line.kind == "evidence" and line.note == note)


def is_by_stake(item: Held) -> bool:
    """Whether the finding takes more than the collateral of the claim. Who is blamed for an earlier lease has none."""
    return item.finding in BY_STAKE or (item.blamed > 0 and item.finding == "wrong")


def kept(genesis: Genesis, escrow: bytes) -> JobBooks | None:
    """Books for a job of this network; none where verdicts pay at once."""
    return None if genesis.policy is UNSET else JobBooks(genesis, escrow)
