"""One judge over a real ledger state, and what its parties can say to it."""

from __future__ import annotations

import hashlib

from msgspec import UNSET

from protocol import operations, wire
from protocol.block import header_hash
from protocol.completions import Fetched, FetchFailed, Scored
from protocol.effects import Compute, Effect, Fetch, Send
from protocol.escrow_state import ChunkLease, Escrow, LedgerState, Standing
from protocol.identity import Identity
from protocol.jobspec import Chunk, JobSpec, Resources
from protocol.ledger import operation_decoder
from protocol.messages import (
    AuditCommit,
    AuditReveal,
    Header,
    Message,
    Outcome,
    Receipt,
    Receipts,
    Reveal,
    Submit,
)
from protocol.operations import Claim, Inherited, Verdict
from protocol.units import MINUTE, SECOND, Digest, Micros, PeerId
from protocol.validators import ValidatorSet
from verifier.bench import CARELESS, Caution
from verifier.case import Auditing, Case
from verifier.judge import Judge

CHAIN = "test"
NOW = Micros(1_000_000 * SECOND)
LAG = 7 * SECOND
"""The ledger's clock is this much behind ours."""
ME, PROVIDER, STEWARD, RENTER, SECOND_AUDITOR, STRANGER = (Identity(bytes([n]) * 32) for n in range(1, 7))
ESCROW = b"e" * 32
SALT = b"s" * 32
GOOD, BAD, ODD = (Digest(bytes([letter]) * 32) for letter in b"gbo")
CHUNKS = 4
WINDOW = 30 * MINUTE


def job(audit_ppm: int = 0) -> JobSpec:
    return JobSpec(
        name="job",
        runtime="python",
        commands=("true",),
        chunks=(Chunk(),) * CHUNKS,
        reduce=("true",),
        resources=Resources(disk_bytes=1000),
        audit_ppm=audit_ppm,
    )


class Court:
    """One judge, the ledger state it reads, and what it asked for."""

    def __init__(
        self,
        audit_ppm: int = 0,
        valid: int = 0,
        auditors: tuple[Identity, ...] = (ME,),
        spec: JobSpec | None = None,
        caution: Caution = CARELESS,
        key: Identity = ME,
    ) -> None:
        self.key = key
        """The judge's."""
        self.blob = wire.encode(spec or job(audit_ppm))
        self.blobs: dict[Digest, bytes] = {}
        """What is here besides the specification."""
        self.spec = wire.digest(self.blob)
        self.state = LedgerState(CHAIN, ValidatorSet(CHAIN, [(ME.peer, 1)]), NOW - LAG)
        self.escrow = Escrow(ESCROW, bytes(16), RENTER.peer, STEWARD.peer, 10**6, self.spec, NOW + 10 * WINDOW)
        self.state.escrows[ESCROW] = self.escrow
        self.state.standings[PROVIDER.peer] = Standing(consecutive_valid=valid)
        stakes = {auditor.peer: 1 for auditor in auditors}
        self.judge = Judge(
            key,
            CHAIN,
            lambda: self.state,
            lambda: (ME.peer, STRANGER.peer),
            lambda facts, provider: stakes,
            lambda digest: self.blobs.get(digest, self.blob),
            caution,
        )
        self.now = NOW
        self.effects: list[Effect] = []
        self.salts: dict[PeerId, bytes] = {}
        self.beacon = b""
        """What claims are drawn from; empty: the block's hash."""

    def header(self) -> Header:
        zero = bytes(32)
        return Header(CHAIN, 5, NOW - LAG, zero, zero, zero, zero, zero, 1)

    def claim(
        self,
        chunk: int = 0,
        output: Digest = GOOD,
        status: str = "applied",
        trace: bytes = b"",
        units: int = 0,
        prefixes: tuple[Inherited, ...] = (),
        signers: tuple[Identity, ...] = (),
    ) -> None:
        """The ledger orders a claim, and this validator hears of it. `prefixes`: what it went on from, by `signers`."""
        sealed = operations.seal(PROVIDER.peer, SALT, output)
        self.escrow.chunks[chunk] = ChunkLease(
            chunk,
            1,
            "claimed",
            PROVIDER.peer,
            verdict_by=NOW - LAG + WINDOW,
            sealed=sealed,
            claimed_in=header_hash(self.header()),
            beacon=self.beacon or header_hash(self.header()),
            trace=trace,
            units=units,
            prefixes=prefixes,
            inherited={entry.epoch: signer.peer for entry, signer in zip(prefixes, signers, strict=True)},
        )
        claimed = Claim(
            ESCROW, chunk, 1, sealed, trace=trace or UNSET, units=units or UNSET, inherited=prefixes or UNSET
        )
        operation = operations.signed_op(CHAIN, claimed, PROVIDER)
        self.hear(self.key, self.receipts(operation, status))

    def receipts(self, operation: operations.SignedOp, status: str = "applied") -> Receipts:
        outcome = Outcome(operation.op_id, "applied" if status == "applied" else "refused", "ok", "")
        signature = operations.Signature(ME.peer, bytes(64))
        return Receipts(self.header(), (signature,), (operation,), (Receipt(outcome, 0, ()),))

    def hear(self, sender: Identity, message: Message | Fetched | FetchFailed | Scored) -> list[Effect]:
        self.effects = self.judge.receive(sender.peer, message, self.now)
        return self.effects

    def wait(self, span: int) -> list[Effect]:
        self.now = Micros(self.now + span)
        self.effects = self.judge.tick(self.now)
        return self.effects

    def know_spec(self) -> None:
        self.hear(ME, Fetched(self.spec, len(self.blob)))

    def reveal(
        self, output: Digest = GOOD, size: int = 10, salt: bytes = SALT, sender: Identity = PROVIDER
    ) -> list[Effect]:
        return self.hear(sender, Reveal(ESCROW, 0, 1, output, size, salt))

    def commit(self, output: Digest, auditor: Identity = ME) -> None:
        """Every execution has a salt of its own, as the auditor's machine makes it."""
        self.salts[auditor.peer] = salt = hashlib.sha256(self.salts.get(auditor.peer, SALT)).digest()
        self.hear(auditor, AuditCommit(ESCROW, 0, 1, operations.seal(auditor.peer, salt, output)))

    def open(self, output: Digest, auditor: Identity = ME, reason: str = "ok", salt: bytes = b"") -> None:
        self.hear(auditor, AuditReveal(ESCROW, 0, 1, output, salt or self.salts[auditor.peer], reason))

    def sent(self, kind: type[Message]) -> list[tuple[PeerId, Message]]:
        return [(e.peer, e.message) for e in self.effects if isinstance(e, Send) and isinstance(e.message, kind)]

    def fetches(self) -> list[Fetch]:
        return [e.work for e in self.effects if isinstance(e, Compute) and isinstance(e.work, Fetch)]

    @property
    def case(self) -> Case:
        return self.judge.cases[ESCROW, 0, 1]

    def verdict(self) -> Verdict:
        """What was sent to every validator, in the last step."""
        submits = self.sent(Submit)
        assert [peer for peer, _ in submits] == [ME.peer, STRANGER.peer]
        message = submits[0][1]
        assert isinstance(message, Submit)
        operation = wire.decode(message.operations[0].body, operation_decoder, ME.peer)
        assert isinstance(operation, Verdict)
        assert message.operations[0].signatures[0].signer == self.key.peer
        return operation

    def found(self) -> tuple[str, str, bool]:
        verdict = self.verdict()
        return verdict.outcome, verdict.code, verdict.is_audited


def in_audit(auditors: tuple[Identity, ...] = (ME,)) -> Court:
    """A newcomer's claim: certain to be audited."""
    court = Court(auditors=auditors)
    court.claim()
    court.know_spec()
    assert isinstance(court.case.state, Auditing)
    return court


def to_open(court: Court, audited: Digest, auditor: Identity = ME) -> None:
    """Up to the point where the auditor opens; the provider claimed GOOD."""
    court.commit(audited, auditor)
    court.reveal()
    court.hear(ME, Fetched(GOOD, 10))
