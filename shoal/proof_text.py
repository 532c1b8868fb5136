"""Trust, verdicts and appeals as text for people: what was found, whose fault that is, what to do, and by when."""

from __future__ import annotations

from typing import Final

from gateway.chunk_schemas import ChunkStatus
from gateway.proof_schemas import Claim, Evidence, Trust
from protocol.reasons import WHO
from shoal.output import money, pairs, short_peer, table, time_text

SHOWN: Final = (0.1, 0.5, 1.0)
"""Shares of left-out work for which the chance to catch it is told; the rest is in the JSON."""


def trust_text(trust: Trust) -> str:
    """What is done about each claim, what that catches, what it costs."""
    if trust.kind == "certificate":
        return "every result is looked at by the job's own check, which is as good as its author made it"
    level = f"trust {trust.level}" if trust.level else "as `audit` says"
    what = f"each of {trust.auditors} auditors" if trust.auditors > 1 else "one auditor"
    share = "all of it" if not trust.units else f"{trust.samples} of {trust.units} units"
    lines = [f"{level}: at least {_percent(trust.audited)} of claims are audited, {what} does {share} again"]
    odds = [f"{_percent(one.left_out)}: {_percent(one.in_job)}" for one in trust.caught if one.left_out in SHOWN]
    if odds:
        lines.append(f"a provider that leaves out a part of every chunk is caught with these odds: {', '.join(odds)}")
    if trust.surcharge:
        average = f"{_percent(trust.surcharge)} of the price on the average, {money(trust.surcharge_per_chunk)} a chunk"
        lines.append(
            f"costs {average}; {money(trust.set_aside_per_chunk)} is set aside and refunded where nobody audits"
        )
    if trust.deterred is not None and trust.candidates:
        lines.append(
            f"a stake of {money(trust.stake_min)} makes cheating on one chunk a loss: "
            f"{trust.deterred} of {trust.candidates} candidates have their part of it"
        )
    return "\n".join(lines)


def verdicts_text(chunks: list[ChunkStatus]) -> str:
    """A line per chunk whose newest verdict needs words; empty when every result was simply right."""
    told = [one for one in chunks if one.sentence and (one.outcome != "accept" or one.held_until or one.appeal)]
    return "\n".join(_verdict_line(one) for one in told)


def _verdict_line(chunk: ChunkStatus) -> str:
    score = "" if chunk.score is None else f", score {chunk.score:.3f}"
    line = f"chunk {chunk.index}: {chunk.outcome} ({chunk.code}{score}): {chunk.sentence}."
    if chunk.outcome != "accept":
        line += f" {fault_words(chunk.fault)} {chunk.fix}"
    if chunk.appeal == "open":
        line += " An appeal is open."
    elif chunk.held_until:
        line += f" Final at {time_text(chunk.held_until)} UTC."
    return line


def fault_words(fault: str) -> str:
    """Whose doing it is.

    >>> fault_words("provider"), fault_words("nobody"), fault_words("gods")
    ("The provider's fault.", "Nobody's fault.", '')
    """
    words: dict[str, str] = {name: f"{text[0].upper()}{text[1:]} fault." for name, text in WHO.items()}
    return words.get(fault, "")


def evidence_text(evidence: Evidence) -> str:
    """Every decision in the ledger's order, then what is not final yet."""
    if not evidence.decisions and not evidence.claims:
        return "no claim of this job has been judged yet"
    rows = [
        (time_text(one.time), one.chunk, one.epoch, one.what, one.finding or "–", one.code or "–",
         "–" if one.score is None else f"{one.score:.3f}", ", ".join(short_peer(peer) for peer in one.peers) or "–",
         one.evidence[:16] or "–")
        for one in evidence.decisions
    ]  # fmt: skip
    heads = ("time (UTC)", "chunk", "epoch", "what", "finding", "code", "score", "by", "evidence")
    parts = [table(heads, rows, right=(1, 2, 6))]
    found = {one.code: one for one in evidence.decisions if one.sentence}
    parts.append("\n".join(f"{code}: {one.sentence}. {one.fix}" for code, one in found.items()))
    held = [claim_text(one) for one in evidence.claims if not one.end]
    parts.append(
        "\n".join(held) if evidence.has_policy else "verdicts are final here: this network has no dispute window"
    )
    return "\n\n".join(part for part in parts if part)


def claim_text(claim: Claim) -> str:
    """One claim: what holds, and what somebody may still do."""
    line = f"chunk {claim.chunk} epoch {claim.epoch}: {claim.finding}"
    if claim.end:
        return f"{line}, final: {claim.end}"
    if claim.rule_by:
        appeal = f"appeal {claim.round + 1} of {claim.rounds}, bond {money(claim.bond)}"
        return f"{line}; {appeal}, is ruled on by {time_text(claim.rule_by)} UTC"
    bond = f", against a bond of {money(claim.bond_min)}" if claim.bond_min else ""
    return f"{line}; may be appealed until {time_text(claim.held_until)} UTC{bond}"


def appeal_pairs(claim: Claim) -> str:
    """What an appeal has set in motion."""
    return pairs(
        [
            ("chunk", f"{claim.chunk} epoch {claim.epoch}"),
            ("finding", f"{claim.finding} ({claim.code})"),
            ("round", f"{claim.round + 1} of {claim.rounds}"),
            ("bond", f"{money(claim.bond)}, lost if the panel finds the same"),
            ("ruled on by", f"{time_text(claim.rule_by)} UTC"),
        ]
    )


def _percent(share: float) -> str:
    """A share with as many digits as mean something.

    >>> _percent(0.1), _percent(0.98765), _percent(0.0008)
    ('10 %', '98.8 %', '0.08 %')
    """
    return f"{share * 100:.3g} %"
