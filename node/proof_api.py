"""`job.evidence`, `job.replay` and `job.appeal` of the control socket: why a claim was judged so, and to contest it.

Whoever wants to know before it stakes a bond has the chunk executed here first; that node then speaks for what it got
if it comes to a game. A renter's appeal is signed with the key that this node keeps for it; an owner's, against a
finding on this node's own work, with the node's. Spec: specs/16-control.md.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, UnsetType

from node import kept_receipts
from node.control_methods import JobAppealParams, JobEvidenceParams, JobReplayParams
from node.parts import Parts
from node.proof_views import held_of, held_view, verdict_view
from node.views import Plain, job_text, peer_or_empty
from protocol import operations, wire
from protocol.disputes import NO_RIVAL, bond_min
from protocol.errors import Refused, Unavailable
from protocol.escrow_state import Escrow
from protocol.held import Held
from protocol.identity import Identity, peer_from_text, peer_text
from protocol.operations import Appeal, Ruling, Verdict
from protocol.policy import Policy
from protocol.units import PPM, PeerId
from verifier.witness import Testimony

APPEAL_TIMEOUT_S: Final = 20.0
"""Seconds that an appeal waits for the ledger before it is `unavailable`; asking again appeals once."""


class ProofApi:
    """`job.evidence`, `job.replay`, `job.appeal`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def evidence(self, params: JobEvidenceParams) -> Plain:
        """Every decided claim of the job, or of one chunk, and the signed decisions that this node has of it."""
        escrow, ledger = self._escrow_id(params.job), self._parts.ledger()
        held = held_of(escrow, params.chunk, ledger)
        return {
            "job": params.job,
            "has_policy": ledger.policy is not None,
            "claims": [held_view(one, ledger, self._parts.now()) for one in held],
            "decisions": self._decisions(escrow, params.chunk),
        }

    async def appeal(self, params: JobAppealParams) -> Plain:
        """Contest the newest decision about a chunk's claim, against a bond. The answer says by when it is ruled on."""
        parts, ledger = self._parts, self._parts.ledger()
        escrow = self._escrow(params.job)
        policy, held = self._contested(escrow, params)
        signer = self._signer(escrow, held)
        if params.replay and held.finding != "accept":
            raise Refused("only an accepted result can be contested by executing it again", code="not_a_party")
        own = self._replayed(held) if params.replay else None
        if params.replay and (own is None or not own.is_over):
            return held_view(held, ledger, parts.now()) | {"replay": "running"}
        bond = params.bond or bond_min(policy, held.price, held.round + 1)
        rival, speaker = self._rival(held, signer, params, own)
        appeal = Appeal(escrow.id, held.chunk, held.epoch, signer.peer, bond, rival, held.round + 1, speaker)
        signed = operations.signed_op(parts.config.network, appeal, signer)
        if held.appeal != signed.op_id:
            parts.driver.command(parts.client, lambda now: parts.client.submit(signed, now))
            await parts.outcomes.applied(signed.op_id, APPEAL_TIMEOUT_S)
        return held_view(held, ledger, parts.now())

    async def replay(self, params: JobReplayParams) -> Plain:
        """Execute a chunk here that may be contested; asked again it says what came of it. Whoever appeals elsewhere
        names `rival` and `speaker` of a replay that differs."""
        _, held = self._contested(self._escrow(params.job), params)
        own = self._replayed(held)
        view: Plain = {"speaker": peer_text(self._parts.identity.peer), "rival": "", "why": "", "replay": "running"}
        if own is None or not own.is_over:
            return view
        if own.phase == "failed":
            return view | {"replay": "failed", "why": own.why}
        return view | {"replay": "agrees" if own.agrees(held) else "differs", "rival": own.root.hex()}

    def _replayed(self, held: Held) -> Testimony | None:
        """What this node computed of a claim's chunk; it begins where nothing is known yet. A failure is told once."""
        parts, place = self._parts, (held.escrow, held.chunk, held.epoch)
        known = parts.witness.find(place)
        if known is None or known.phase == "failed":
            parts.driver.command(parts.witness, lambda now: parts.witness.replay(place, now))
        return known

    def _escrow_id(self, job: str) -> bytes:
        """By the job's id: this node may be its steward, its provider, or neither."""
        raw, ledger = wire.raw_id("job", job, 16), self._parts.ledger()
        found = [key for listed in (ledger.bygone, ledger.escrows) for key, one in listed.items() if one.job == raw]
        if not found:
            raise Refused(
                f"the ledger has no escrow of {job_text(raw)}", code="unknown_job", fix="Confirm the job first."
            )
        return found[-1]

    def _escrow(self, job: str) -> Escrow:
        """The same, of a job that can still be contested."""
        found = self._parts.ledger().escrows.get(self._escrow_id(job))
        if found is None:
            raise Refused(
                f"{job} ended too long ago to be contested",
                code="not_held",
                fix="Appeals count only between a decision and the end of its window.",
            )
        return found

    def _contested(self, escrow: Escrow, params: JobAppealParams | JobReplayParams) -> tuple[Policy, Held]:
        """The newest decided claim of the chunk, or `Refused`."""
        ledger = self._parts.ledger()
        if ledger.policy is None:
            raise Refused(
                "this network pays at the verdict: it has no dispute window",
                code="no_window",
                fix="Nothing can be appealed here; a network says in its genesis whether pay is held.",
            )
        held = [one for one in held_of(escrow.id, params.chunk, ledger) if params.epoch in (0, one.epoch)]
        if not held or held[-1].end:
            detail = f"nothing is held of chunk {params.chunk}" + (f" epoch {params.epoch}" if params.epoch else "")
            fix = "Appeals count only between a decision and the end of its window: `shoal job evidence` shows it."
            raise Refused(detail, code="not_held", fix=fix)
        return ledger.policy, held[-1]

    def _signer(self, escrow: Escrow, held: Held) -> Identity:
        """Who appeals: this node for its own work, else the renter whose key it keeps."""
        own = self._parts.identity
        if own.peer in (held.provider, *held.faulted):
            return own
        renter = self._parts.steward.renters.get(PeerId(escrow.owner))
        if renter is None:
            raise Refused(
                "this node is neither the chunk's provider nor keeps its renter's key",
                code="not_a_party",
                fix="Ask the node that did the work, or the gateway that the job was submitted to.",
            )
        return renter

    def _rival(
        self, held: Held, signer: Identity, params: JobAppealParams, own: Testimony | None
    ) -> tuple[bytes, bytes | UnsetType]:
        """The trace that an appeal stands for, and who opens it. In the third round a provider's is the one that it
        claimed; otherwise it is the one that was named, or what this node computed."""
        if own is not None and own.phase == "failed":
            raise Unavailable(
                f"the chunk did not run to its end here: {own.why}",
                code="not_replayed",
                fix="Ask again to try once more, have another node of yours execute it, or appeal without.",
            )
        if own is not None and own.agrees(held):
            raise Refused(
                "this node executed the chunk and got what was claimed",
                code="replay_agrees",
                fix="An appeal would lose its bond; nothing was staked.",
            )
        if own is not None:
            return own.root, self._parts.identity.peer if own.root != NO_RIVAL else UNSET
        named = peer_from_text(params.speaker) if params.speaker else UNSET
        if params.rival:
            return bytes.fromhex(params.rival), named
        return (held.trace if held.round == 2 and signer.peer == held.provider else NO_RIVAL), UNSET

    def _decisions(self, escrow: bytes, chunk: int | None) -> list[Plain]:
        """Verdicts, appeals and rulings in the ledger's order, out of the receipts that this node was sent."""
        return [
            decision_view(operation, header.time)
            for header, operation in kept_receipts.applied(self._parts, escrow)
            if isinstance(operation, Verdict | Appeal | Ruling) and chunk in (None, operation.chunk)
        ]


def decision_view(op: Verdict | Appeal | Ruling, time: int) -> Plain:
    """One ordered decision in words."""
    view: Plain
    match op:
        case Verdict():
            view = {
                "what": "verdict", "finding": op.outcome, "code": op.code, **verdict_view(op.code, op.outcome),
                "is_audited": op.is_audited, "peers": [peer_or_empty(op.auditor)],
                "score": op.score / PPM if isinstance(op.score, int) else None,
                "output": op.output.hex(), "evidence": op.evidence.hex(), "bond": 0, "round": 0,
            }  # fmt: skip
        case Ruling():
            view = {
                "what": op.outcome, "finding": op.finding, "code": op.code, **verdict_view(op.code, op.finding),
                "is_audited": True, "peers": [peer_or_empty(peer) for peer in op.panel], "score": None,
                "output": "", "evidence": op.evidence.hex(), "bond": 0, "round": op.round,
            }  # fmt: skip
        case Appeal():
            view = {
                "what": "appeal", "finding": "", "code": "", **verdict_view("", ""),
                "is_audited": False, "peers": [peer_or_empty(op.appellant)], "score": None,
                "output": "", "evidence": op.rival.hex(), "bond": op.bond, "round": 0,
            }  # fmt: skip
    return {"time": time, "chunk": op.chunk, "epoch": op.epoch, **view}
