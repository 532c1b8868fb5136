"""The ledger: signed operations in, outcomes out, one root over everything that changed. Spec: specs/06-ledger.md.

The same operations at the same ledger times give the same outcomes, state and roots on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import UNSET

from protocol import automatic, beacons, books, wire
from protocol.accounts import RESERVE, Post
from protocol.beacon import Beacon
from protocol.errors import Refused, RemoteViolation
from protocol.escrow import SEQUENCED, admit, apply_operation
from protocol.escrow_state import Bygone, Escrow, LedgerState, Standing, rooted
from protocol.genesis import Genesis
from protocol.held import Held
from protocol.identity import is_signed_by
from protocol.messages import Outcome
from protocol.operations import Operation, SignedOp, op_id
from protocol.policy import Policy
from protocol.remembered import Remembered
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
        self._remembered = Remembered()
        self.policy: Policy | None = None if genesis.policy is UNSET else genesis.policy
        self._state = LedgerState(genesis.chain, self.validators, genesis.time, self.policy)
        self._root = genesis.digest
        for cls, key, amount in genesis.balances:
            self._state.accounts.apply([Post(RESERVE, (cls, key), amount)])

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def time(self) -> Micros:
        """The ledger clock, µs."""
        return Micros(self._state.time)

    @property
    def outcomes(self) -> dict[bytes, tuple[int, Outcome]]:
        """What became of operations that left a trace, op id -> (height, outcome): all that could be repeated, and the
        newest others; read only."""
        return self._remembered.outcomes

    @property
    def root(self) -> Digest:
        """The newest state root: equal ledgers have equal ones at equal height (I9)."""
        return self._root

    @property
    def escrows(self) -> dict[bytes, Escrow]:
        """The open ones, and the newest that are closed, by id; read only."""
        return self._state.escrows

    @property
    def bygone(self) -> dict[bytes, Bygone]:
        """What is kept of all others, by id, oldest first; read only."""
        return self._state.bygone

    @property
    def standings(self) -> dict[bytes, Standing]:
        """By provider; read only."""
        return self._state.standings

    @property
    def held(self) -> dict[bytes, Held]:
        """Decisions that are held, and the newest that were, by `protocol.held.held_id`; read only."""
        return self._state.held

    def held_in(self, escrow: bytes) -> tuple[Held, ...]:
        """Decisions about a job's claims that are not final, oldest first."""
        return tuple(self._state.held_in.get(escrow, {}).values())

    @property
    def appealed(self) -> Iterator[Held]:
        """Decisions with an open appeal."""
        return (held for items in self._state.held_in.values() for held in items.values() if held.is_appealed)

    @property
    def beacons(self) -> dict[int, Beacon]:
        """The newest beacons by number, oldest first; read only."""
        return self._state.beacons

    @property
    def uncovered(self) -> Sequence[tuple[bytes, int, int]]:
        """(escrow, chunk, epoch) of claims that no beacon covers yet, oldest first."""
        return self._state.uncovered

    @property
    def beacon_wanted(self) -> int | None:
        """The number of the beacon that validators should seal or open parts of now; None while no claim waits."""
        return beacons.wanted(self._state)

    def available(self, cls: str, key: bytes) -> int:
        """What an account may spend now, smallest units: `available("U", peer)`, `("S", peer)`, `("E", escrow)` …"""
        return self._state.accounts.available((cls, key))

    @property
    def stakes(self) -> dict[PeerId, int]:
        """What each peer has at stake, promised or not, smallest units."""
        accounts = self._state.accounts
        return {PeerId(key[1]): accounts.balance(key) for key in accounts if key[0] == "S"}

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

        Only what left a trace is remembered: applied operations, and refused ones that used up a sequence; for as long
        as they could be repeated, and a while (`protocol.remembered`). Any other refusal may be tried again: nobody can
        spoil an operation by sending it early or half signed."""
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
            self._remembered.add(op, outcome, self.height + 1, self._state.time)
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
        """The block of the operations since the last commit is complete; its claims get its hash as their beacon. What
        can do nothing any more is forgotten."""
        has_beacon = self.policy is not None and self.policy.has_beacon
        for lease, epoch in self._state.claimed:
            if lease.epoch == epoch:
                lease.claimed_in = header_hash
                if not has_beacon:
                    lease.beacon = header_hash
        for beacon in self._state.opened:
            beacon.opened_in = header_hash
        self._state.opened.clear()
        self._state.claimed.clear()
        self._remembered.forget(self._state.bygone, self._state.time)
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
            sorted(state.held.items()),
            list(state.retired),
            list(state.beacons.items()),
            state.uncovered,
            list(state.closed),
            list(state.bygone.items()),
        )
        pending = sorted(state.accounts.pending.items())
        outcomes = sorted(self.outcomes.items())
        return wire.encode((state.time, self.height, self._root, accounts, escrows, rest, pending, outcomes))

    def check(self) -> None:
        """Every invariant (I1–I5), over the whole state. Raises `LocalError`; a ledger that fails it must stop."""
        books.check(self._state)

    def _record(self, kind: str, key: bytes, number: int) -> object:
        state = self._state
        match kind:
            case "chunk":
                return rooted(state.escrows[key].chunks[number]) if key in state.escrows else None
            case "escrow":
                escrow = state.escrows.get(key)
                if escrow is None:
                    return None
                later = () if self.policy is None else (escrow.is_closing, escrow.held)
                if escrow.evidence:
                    later = (*later, escrow.evidence)
                return (
                    escrow.cap,
                    escrow.deadline,
                    escrow.is_closed,
                    escrow.leased,
                    escrow.paid,
                    escrow.commission,
                    escrow.slashed,
                    escrow.refunded,
                    *later,
                )
            case "standing":
                return rooted(state.standings[key])
            case "held":
                return state.held.get(key)
            case "beacon":
                return state.beacons.get(number)
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
