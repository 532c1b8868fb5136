"""The ledger: signed operations in, outcomes out, one root over everything that changed. Spec: specs/06-ledger.md.

The same operations at the same ledger times give the same outcomes, state and roots on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from protocol import automatic, carried, wire
from protocol.accounts import RESERVE, Post
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.escrow import SEQUENCED, admit, apply_operation
from protocol.escrow_state import Escrow, LedgerState, Standing
from protocol.genesis import Genesis
from protocol.identity import is_signed_by
from protocol.leases_ledger import promises
from protocol.messages import Outcome
from protocol.operations import Operation, SignedOp, op_id
from protocol.units import Digest, Micros, PeerId
from protocol.validators import ValidatorSet

_DETAIL_CHARS: Final = 128
"""What `Outcome.detail` can carry."""

operation_decoder: Final[msgspec.msgpack.Decoder[Operation]] = msgspec.msgpack.Decoder(Operation)


@dataclass(frozen=True, slots=True)
class Checked:
    """A signed operation after decoding: what it says, its id, who validly signed."""

    operation: Operation
    signed: SignedOp
    op_id: Digest
    signers: frozenset[bytes]


def check(signed: SignedOp, chain: str, sender: PeerId, verified: bool = False) -> Checked:
    """Decode an operation and verify its signatures, unless somebody trusted has. Raises `RemoteViolation`."""
    operation = wire.decode(signed.body, operation_decoder, sender)
    signers = frozenset(item.signer for item in signed.signatures)
    if len(signers) != len(signed.signatures):
        raise RemoteViolation(sender, "one key signs an operation twice", code="bad_signature")
    if not verified:
        data = wire.signing_bytes(chain, "op", signed.body)
        for item in signed.signatures:
            if not is_signed_by(PeerId(item.signer), data, item.signature):
                raise RemoteViolation(
                    sender, f"bad signature of {item.signer.hex()[:16]} on an operation", code="bad_signature"
                )
    return Checked(operation, signed, op_id(signed.body), signers)


class Ledger:
    """Accounts, escrows and standings of one chain. `advance`, `execute` … `state_root`, `commit`, and again."""

    def __init__(self, genesis: Genesis) -> None:
        self.chain = genesis.chain
        self.validators: ValidatorSet = genesis.validator_set
        self.height = 0
        self.outcomes: dict[bytes, tuple[int, Outcome]] = {}
        """What became of operations that left a trace: op id -> (height, outcome)."""
        self._state = LedgerState(genesis.chain, self.validators, genesis.time)
        self._root = genesis.digest
        for cls, key, amount in genesis.balances:
            self._state.accounts.apply([Post(RESERVE, (cls, key), amount)])

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def time(self) -> Micros:
        """The ledger clock, µs."""
        return Micros(self._state.time)

    @property
    def root(self) -> Digest:
        """The newest state root: equal ledgers have equal ones at equal height (I9)."""
        return self._root

    @property
    def escrows(self) -> dict[bytes, Escrow]:
        """By id; read only."""
        return self._state.escrows

    @property
    def standings(self) -> dict[bytes, Standing]:
        """By provider; read only."""
        return self._state.standings

    def available(self, cls: str, key: bytes) -> int:
        """What an account may spend now, smallest units: `available("U", peer)`, `("S", peer)`, `("E", escrow)` …"""
        return self._state.accounts.available((cls, key))

    def next_sequence(self, owner: bytes, lane: int = 0) -> int:
        """The sequence that the owner's next operation in this lane must carry."""
        return self._state.lanes.get((owner, lane), 0)

    # ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def apply(self, signed_op: SignedOp, time: int, verified: bool = False) -> Outcome:
        """Advance to `time` and execute one operation. Anything wrong with it comes back as a refused outcome."""
        self.advance(time)
        try:
            checked = check(signed_op, self.chain, PeerId(bytes(32)), verified)
        except RemoteViolation as error:
            return _refused(signed_op.op_id, error.code, error.rule)
        return self.execute(checked.operation, checked.op_id, checked.signers)

    def advance(self, time: int) -> None:
        """Move the clock, never back, and do what is due."""
        automatic.advance(self._state, time)

    def execute(self, op: Operation, op_id: bytes, signers: frozenset[bytes]) -> Outcome:
        """One operation with verified signers, now. A repeated one gets its first outcome again and does nothing.

        Only what left a trace is remembered: applied operations, and refused ones that used up a sequence. Any other
        refusal may be tried again, so nobody can spoil an operation by sending it early or half signed."""
        known = self.outcomes.get(op_id)
        if known is not None:
            return known[1]
        is_remembered = False
        try:
            if isinstance(op, SEQUENCED):
                admit(self._state, op, signers)
                is_remembered = True
            apply_operation(self._state, op, op_id, signers)
            outcome, is_remembered = Outcome(op_id, "applied", "ok", ""), True
        except Refused as error:
            outcome = _refused(op_id, error.code, error.detail)
        if is_remembered:
            self.outcomes[op_id] = (self.height + 1, outcome)
        return outcome

    def state_root(self) -> Digest:
        """Fold every record changed since the last call into the root: SHA-256(previous root, sorted records).

        A chain of changes rather than a tree of the state: it costs what a block changed, not what the ledger holds."""
        state = self._state
        records: list[object] = [(*key, state.accounts[key].encode()) for key in sorted(state.accounts.touched)]
        records += [(*key, self._record(*key)) for key in sorted(state.touched)]
        state.accounts.touched.clear()
        state.touched.clear()
        self._root = Digest(hashlib.sha256(b"shoal/1\0state\0" + self._root + wire.encode(records)).digest())
        return self._root

    def commit(self, header_hash: bytes) -> None:
        """The block of the operations since the last commit is complete; its claims get its hash as their beacon."""
        for lease, epoch in self._state.claimed:
            if lease.epoch == epoch:
                lease.claimed_in = header_hash
        self._state.claimed.clear()
        self.height += 1

    # ── proof ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def encode(self) -> bytes:
        """The whole state in one canonical form: equal ledgers give equal bytes (I9)."""
        state = self._state
        accounts = [(*key, state.accounts[key].encode()) for key in sorted(state.accounts)]
        escrows = [
            (
                *(getattr(escrow, name) for name in escrow.__struct_fields__ if name != "chunks"),
                sorted(escrow.chunks.items()),
            )
            for _, escrow in sorted(state.escrows.items())
        ]
        rest = (
            sorted(state.standings.items()),
            sorted(state.lanes.items()),
            sorted(state.references),
            sorted(state.due),
        )
        pending = sorted(state.accounts.pending.items())
        outcomes = sorted(self.outcomes.items())
        return wire.encode((state.time, self.height, self._root, accounts, escrows, rest, pending, outcomes))

    def check(self) -> None:
        """Every invariant (I1–I5), over the whole state. Raises `LocalError`; a ledger that fails it must stop."""
        self._state.accounts.check()
        promised: set[bytes] = set()
        for escrow in self._state.escrows.values():
            running = [lease for lease in escrow.chunks.values() if lease.state in ("assigned", "claimed")]
            shares = [item for lease in escrow.chunks.values() for item in carried.waiting(lease)]
            account = self._state.accounts[escrow.account]
            due = sum(lease.price for lease in running) + sum(item.amount for item in shares)
            if escrow.leased != len(running) or account.debits_pending != due:
                raise LocalError(
                    f"escrow {escrow.id.hex()} pends {account.debits_pending} for {len(running)} leases and "
                    f"{len(shares)} shares",
                    code="I4",
                )
            if escrow.is_closed and (running or shares or account.available):
                raise LocalError(f"closed escrow {escrow.id.hex()} holds {account.available}", code="I5")
            spent = escrow.paid + escrow.commission + escrow.refunded
            if escrow.cap - spent != account.available + account.debits_pending:
                raise LocalError(
                    f"escrow {escrow.id.hex()} spent {spent} of {escrow.cap}, holds {account.encode()!r}", code="I3"
                )
            promised |= {pend_id for lease in running for pend_id, _, _ in promises(lease)}
            promised |= {pend_id for item in shares for pend_id, _, _ in carried.promises(item)}
        if promised != {pend_id for pend_id in self._state.accounts.pending if len(pend_id) > len(self._root)}:
            raise LocalError("promises and running leases differ", code="I4")

    def _record(self, kind: str, key: bytes, number: int) -> object:
        state = self._state
        match kind:
            case "chunk":
                return state.escrows[key].chunks[number]
            case "escrow":
                escrow = state.escrows[key]
                return (
                    escrow.cap,
                    escrow.deadline,
                    escrow.is_closed,
                    escrow.leased,
                    escrow.paid,
                    escrow.commission,
                    escrow.slashed,
                    escrow.refunded,
                )
            case "standing":
                return state.standings[key]
            case "lane":
                return state.lanes[key, number]
            case _:
                return True


def run_block(ledger: Ledger, operations: Sequence[Checked], time: int) -> tuple[Outcome, ...]:
    """Advance to a block's time and execute its operations in order."""
    ledger.advance(time)
    return tuple(ledger.execute(item.operation, item.op_id, item.signers) for item in operations)


def _refused(op: bytes, code: str, detail: str) -> Outcome:
    return Outcome(op, "refused", code, detail[:_DETAIL_CHARS])
