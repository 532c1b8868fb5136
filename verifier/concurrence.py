"""What a judge makes of the verdicts of others while its own finds no company: it may join one.

Signatures add up only over equal bytes, and a verdict names who was heard. An auditor that answers some judges and not
others would so split them until the lease ends unpaid, and a cheat that opens its claim to some would go free. A judge
takes over whom others heard, and what a provider showed others and not it; never what speaks against its own finding.
Spec: specs/11-verification.md.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from protocol import operations, tallies, wire
from protocol.effects import Effect, Emit, Send
from protocol.errors import RemoteViolation
from protocol.identity import is_signed_by
from protocol.ledger import operation_decoder
from protocol.messages import Submit
from protocol.operations import SignedOp, Verdict
from protocol.units import Digest, Micros, PeerId
from verifier.bench import Bench
from verifier.case import Case, Decided

VERDICTS_MAX: Final = 8
"""Verdicts about one claim for which one validator is counted: it may have joined some; the rest is noise."""

UNSHOWN: Final = frozenset({"not_revealed", "output_unavailable", "withheld", "bad_path", "seal_mismatch"})
"""Codes of faults in what the provider showed one judge: it may have shown others what proves more."""

WEIGHTS: Final = ("missing", "rejected", "wrong", "withheld", "severe", "fraud")
"""Findings, each heavier than those before it."""


def may_join(mine: Verdict, theirs: Verdict) -> bool:
    """Whether a judge signs the verdict of others about one claim besides its own.

    Where both find the same and differ at most in who was heard; where this judge heard nobody and others somebody; and
    where the provider showed this judge nothing, or not whose unit it was, and showed others what proves a fault."""
    names = replace(
        theirs,
        auditor=mine.auditor,
        evidence=mine.evidence,
        score=mine.score,
        faulted=mine.faulted,
        agreed=mine.agreed,
    )
    if names == mine:
        return True
    if mine.outcome == theirs.outcome == "accept":  # A result that is accepted unheard owes an audit.
        is_unheard = tallies.is_unheard(mine.is_audited, mine.code) and mine.output == theirs.output
        return is_unheard and (theirs.is_audited or theirs.code in tallies.UNHEARD)
    if "accept" in (mine.outcome, theirs.outcome):
        return False
    is_less = mine.code in UNSHOWN and WEIGHTS.index(mine.outcome) < WEIGHTS.index(theirs.outcome)
    return is_less or mine == replace(names, blamed=UNSET)


class Concurrence:
    """Every verdict of other validators about cases that one judge has decided."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def submitted(self, message: Submit, now: Micros) -> list[Effect]:
        """Operations on their way to the ledger, verdicts among them. Whoever brings them: signatures count."""
        if not any(case.repeats for case in self._bench.cases.values()):
            return []
        return [effect for signed in message.operations for effect in self._heard(signed, now)]

    def _heard(self, signed: SignedOp, now: Micros) -> list[Effect]:
        try:
            theirs = wire.decode(signed.body, operation_decoder, self._bench.identity.peer)
        except RemoteViolation:
            return []  # The orderer says so to who sent it.
        if not isinstance(theirs, Verdict):
            return []
        case = self._bench.cases.get((theirs.escrow, theirs.chunk, theirs.epoch))
        # A verdict that went out but once may just not be ordered yet.
        if case is None or not case.repeats or not isinstance(case.state, Decided):
            return []
        mine = wire.decode(case.state.verdict.body, operation_decoder, self._bench.identity.peer)
        known = signed.op_id == case.state.verdict.op_id or signed.op_id in case.joined
        if known or not isinstance(mine, Verdict) or not may_join(mine, theirs):
            return []
        self._count(case, signed)
        validators = self._bench.ledger().validators
        # More than a third is one honest judge at least, which has heard whom it names.
        if 3 * validators.power(case.others.get(signed.op_id, ())) <= validators.total:
            return []
        return self._join(case, theirs, signed.op_id)

    def _count(self, case: Case, signed: SignedOp) -> None:
        """Who signs it, as far as that is new."""
        validators, data = self._bench.ledger().validators, wire.signing_bytes(self._bench.chain, "op", signed.body)
        for item in signed.signatures:
            signer = PeerId(item.signer)
            counted = [signers for signers in case.others.values() if signer in signers]
            if signer not in validators or len(counted) >= VERDICTS_MAX:
                continue
            if signer not in case.others.get(signed.op_id, ()) and is_signed_by(signer, data, item.signature):
                case.others.setdefault(signed.op_id, set()).add(signer)

    def _join(self, case: Case, theirs: Verdict, op_id: Digest) -> list[Effect]:
        """Sign it, too. One's own stays: whichever has a quorum first counts, and the ledger takes one."""
        signed = operations.signed_op(self._bench.chain, theirs, self._bench.identity)
        if signed.op_id != op_id:
            return []  # Other bytes for the same words: no honest judge has signed those.
        case.joined[op_id] = signed
        told = self._bench.fields(case, PeerId(theirs.auditor)) | {"code": theirs.code}
        sent = [Send(peer, Submit((signed,))) for peer in self._bench.validators()]
        return [*sent, Emit("verdict_joined", told)]
