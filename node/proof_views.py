"""What is said of proof: the trust that a job asks for with its price, and what became of a claim, in words."""

from __future__ import annotations

from typing import Final

from node.views import Plain, here, peer_or_empty
from protocol import reasons, rewards, trust
from protocol.disputes import bond_min
from protocol.held import Held, held_id
from protocol.job_record import ChunkRecord
from protocol.jobspec import JobSpec
from protocol.ledger import Ledger
from protocol.matching import Plan
from protocol.proof import Proof
from protocol.rewards import Work
from protocol.units import PPM, Micros

NOT_LATER: Final = ("", "handed", "fenced", "surrendered", "expired", "undecided", "settled")
"""Ends of a lease that no judge found: there is nothing to explain."""


def trust_view(spec: JobSpec, chunk_price: int) -> Plain:
    """What is done about each claim, what that catches, and what it costs. `chunk_price`: at the dearest candidate,
    without what is set aside."""
    asked, units = trust.terms(spec), spec.units
    replayed = trust.replayed_ppm(asked, units)
    kind = spec.proof.kind if isinstance(spec.proof, Proof) else ""
    is_drawn = kind != "certificate"  # Every certificate is checked, and its check knows no odds.
    return {
        "level": asked.level or "",
        "kind": kind,
        "numeric": spec.numeric,
        "units": units,
        "audited": asked.floor_ppm / PPM if is_drawn else 1.0,
        "auditors": asked.auditors,
        "samples": asked.samples if units else 0,
        "replayed": replayed / PPM,
        "caught": [
            {"left_out": part / PPM, "per_chunk": caught / PPM,
             "in_job": trust.caught_in_job_ppm(caught, spec.steps) / PPM}
            for part in trust.FRACTIONS if is_drawn
            for caught in (trust.caught_ppm(asked, units, part),)
        ],
        "evidence": trust.evidence_ppm(asked, units) / PPM,
        "surcharge": trust.surcharge_ppm(asked, units) / PPM,
        "surcharge_per_chunk": trust.surcharge(chunk_price, asked, units),
        "set_aside_per_chunk": trust.evidence_price(chunk_price, asked, units),
        "stake_min": trust.stake_min(chunk_price, asked),
    }  # fmt: skip


def quoted_trust(spec: JobSpec, chunk_price_max: int) -> Plain:
    """The same for a quoted job, whose price per chunk contains what is set aside."""
    return trust_view(spec, trust.price_within(chunk_price_max, trust.terms(spec), spec.units))


def plan_trust(spec: JobSpec, plan: Plan) -> Plain:
    """The same for a plan, and how many of its candidates have the stake that makes a cheat a loss."""
    price = max((one.chunk_price for one in plan.candidates), default=0)
    view = trust_view(spec, price)
    asked = trust.terms(spec)
    deterred = sum(1 for one in plan.candidates if one.stake >= trust.stake_min(one.chunk_price, asked))
    return {**view, "deterred": deterred, "candidates": len(plan.candidates)}


def verdict_view(code: str, outcome: str) -> Plain:
    """A finding in words; empty words where nobody judged."""
    if not code or outcome in NOT_LATER:
        return {"sentence": "", "fault": "", "fix": ""}
    found = reasons.explained(code, outcome)
    return {"sentence": found.sentence, "fault": found.fault, "fix": found.fix}


def proof_view(chunk: ChunkRecord, escrow: bytes, ledger: Ledger, now: int) -> Plain:
    """What a job's status adds to a chunk: its newest verdict in words, and until when somebody may appeal. `now`: of
    this machine, as in all of these."""
    held = ledger.held.get(held_id(escrow, chunk.index, chunk.epoch)) if escrow else None
    view = {
        **verdict_view(chunk.code, chunk.outcome),
        "score": chunk.score / PPM if chunk.score >= 0 else None,
        "evidence": chunk.evidence.hex(),
        "held_until": 0,
        "appeal": "",
    }
    return view if held is None else view | _held_words(held, ledger, now)


def _held_words(held: Held, ledger: Ledger, now: int) -> Plain:
    state = "open" if held.is_appealed else "ruled" if held.round else ""
    return {"held_until": 0 if held.end else here(held.until, ledger, now), "appeal": state}


def held_view(held: Held, ledger: Ledger, now: int) -> Plain:
    """One decided claim with everything that the ledger knows of it."""
    policy = ledger.policy
    least = 0
    if policy is not None and not held.end and held.round < held.last_round:
        least = bond_min(policy, held.price, held.round + 1)
    return {
        "chunk": held.chunk,
        "epoch": held.epoch,
        "provider": peer_or_empty(held.provider),
        "verdict": held.verdict,
        "finding": held.finding,
        "code": held.code,
        **verdict_view(held.code, held.finding),
        "price": held.price,
        "collateral": held.collateral,
        "is_audited": held.is_audited,
        "auditor": peer_or_empty(held.auditor),
        "agreed": [peer_or_empty(peer) for peer in held.agreed],
        "refuted": [peer_or_empty(peer) for peer in held.faulted],
        "blamed": held.blamed,
        "claimant": peer_or_empty(held.claimant),
        "held_until": 0 if held.end else here(held.until, ledger, now),
        "end": held.end,
        "round": held.round,
        "rounds": held.last_round,
        "appellant": peer_or_empty(held.appellant),
        "bond": held.bond,
        "bond_min": least,
        "rule_by": here(held.rule_by, ledger, now),
        "rival": held.rival.hex() if any(held.rival) else "",
        "speaker": peer_or_empty(held.speaker),
        "replay": "",
        "trace": held.trace.hex(),
    }


def held_of(escrow: bytes, chunk: int | None, ledger: Ledger) -> list[Held]:
    """Decided claims of a job, of one chunk where said, by chunk and epoch."""
    mine = [one for one in ledger.held.values() if one.escrow == escrow and chunk in (None, one.chunk)]
    return sorted(mine, key=lambda one: (one.chunk, one.epoch))


def earning_view(line: Plain, ledger: Ledger, reputation: int, now: int) -> Plain:
    """What an earnings line of this node says beside its numbers: the code in words, what is held and until when, and
    the owner's formula, line by line, with what of it moves money."""
    escrow = bytes.fromhex(str(line["escrow"]))
    place = (int(str(line["chunk"])), int(str(line["epoch"])))
    held = ledger.held.get(held_id(escrow, *place))
    view = verdict_view(str(line["code"]), str(line["outcome"]))
    if held is not None:
        view |= _held_words(held, ledger, now) | {"finding": held.finding, "end": held.end}
    if line["outcome"] == "accept":
        work = Work(
            int(str(line["price"])),
            _elapsed(held, ledger, escrow, place),
            Micros(int(str(line.get("expected", 0)))),
            reputation,
        )
        view["reward"] = [
            {"what": one.what, "amount": one.amount, "force": one.force} for one in rewards.inference(work)
        ]
    return view


def _elapsed(held: Held | None, ledger: Ledger, escrow: bytes, place: tuple[int, int]) -> Micros:
    """From lease to claim; 0 where the ledger does not remember it."""
    if held is not None:
        return Micros(held.response)
    chunk, epoch = place
    lease = ledger.escrows[escrow].chunks.get(chunk) if escrow in ledger.escrows else None
    return Micros(lease.claimed_at - lease.assigned_at if lease is not None and lease.epoch == epoch else 0)
