"""Jobs, plans and money as text for people."""

from __future__ import annotations

import math

from gateway.schemas import ChunkStatus, JobStatus, JobSummary, Money, Plan, Quote
from shoal.output import money, pairs, short_peer, span_text, table, time_text
from shoal.proof_text import trust_text, verdicts_text


def plan_text(plan: Plan) -> str:
    """Candidates, then who was left out and why."""
    rows = [
        (
            short_peer(one.peer),
            money(one.price_per_hour),
            money(one.chunk_price),
            one.executor,
            one.slots,
            _share(one.reputation),
            one.region or "–",
            "unknown" if one.latency_ms is None else f"{one.latency_ms} ms",
            rate_text(one.uplink),
            at_most(one.worst_case_loss_s) + (" !" if one.is_exposed else ""),
        )
        for one in plan.candidates
    ]
    heads = ("candidate", "per hour", "per chunk", "executor", "slots", "reputation", "region", "latency",
             "uplink", "lost at worst")  # fmt: skip
    parts = [table(heads, rows, right=(1, 2, 4, 5, 7, 8, 9)) or "no candidate"]
    if plan.excluded:
        left_out = [(short_peer(one.peer), one.code, one.detail) for one in plan.excluded]
        parts.append(table(("left out", "code", "why"), left_out))
    if plan.candidates:
        parts.append("\n".join(_loss_lines(plan)))
    if plan.trust is not None and plan.candidates:
        parts.append(trust_text(plan.trust))
    return "\n\n".join(parts)


def _loss_lines(plan: Plan) -> list[str]:
    """What a death costs: with whoever is asked first, and a warning about those where it is too much."""
    first = plan.candidates[0]
    lines = [f"start in about {_seconds(plan.start_estimate_s)}; {first.loss or 'what a lost peer costs is not known'}"]
    if plan.is_state_guessed and plan.state_bytes:
        lines.append("say how large the state is for a better figure: `checkpoint: {state: 500MB}` in the job file")
    exposed = [one for one in plan.candidates if one.is_exposed]
    if exposed:
        names = ", ".join(short_peer(one.peer) for one in exposed)
        lines.append(f"! more than 5 min of work may be lost with {names}: asked after all others")
    return lines


def quote_text(quote: Quote, now: int) -> str:
    """What it costs at most."""
    left = span_text(max(0, quote.expires - now))
    per_chunk = money(quote.chunk_price_max)
    return f"at most {money(quote.total_max)} credits, {per_chunk} per chunk; the quote holds for {left}"


def status_text(status: JobStatus) -> str:
    """State, chunks, money."""
    top = [
        ("job", status.job),
        ("name", status.name),
        ("state", status.state + (f" ({status.reason})" if status.reason else "")),
        ("steps", f"{status.accepted} of {status.steps} accepted"),
        ("created", time_text(status.created)),
        ("finished", time_text(status.finished)),
    ]
    parts = [pairs(top)]
    if status.chunks:
        parts.append(chunks_text(status.chunks))
        parts += [text for text in _said(status.chunks) if text]
    if status.money is not None:
        parts.append(money_text(status.money))
    return "\n\n".join(parts)


def _said(chunks: list[ChunkStatus]) -> tuple[str, str, str]:
    return safety_text(chunks), recoveries_text(chunks), verdicts_text(chunks)


def chunks_text(chunks: list[ChunkStatus]) -> str:
    """One line per chunk."""
    rows = [
        (chunk.index, chunk.state, chunk.epoch, short_peer(chunk.provider), chunk.executor or "–", money(chunk.price),
         chunk.outcome or "–", "yes" if chunk.is_audited else "no", _steps(chunk), _ends(chunk))
        for chunk in chunks
    ]  # fmt: skip
    heads = (
        "chunk",
        "state",
        "epoch",
        "provider",
        "executor",
        "price",
        "outcome",
        "audited",
        "steps",
        "attempts ended",
    )
    return table(heads, rows, right=(0, 2, 5))


def safety_text(chunks: list[ChunkStatus]) -> str:
    """One line per chunk that is at work and has something to lose; empty where snapshots are not taken."""
    rows = [
        (chunk.index, chunk.tier or "–", chunk.step or "–",
         "–" if chunk.lost_now_s is None else f"at most {at_most(chunk.lost_now_s)}",
         short_peer(chunk.standby) if chunk.standby else "no", chunk.kept or "–", chunk.protection)
        for chunk in chunks
        if chunk.protection not in ("", "off") and (chunk.provider or chunk.tier)
    ]  # fmt: skip
    heads = ("chunk", "tier", "safe step", "lost if it dies now", "standby", "kept", "protection")
    return table(heads, rows, right=(0, 2))


def recoveries_text(chunks: list[ChunkStatus]) -> str:
    """One line per time that a chunk went on elsewhere."""
    return "\n".join(
        f"chunk {chunk.index} went on at step {one.step} of {max(one.reached, one.step)}"
        + ("" if one.seconds is None else f", {one.seconds:.1f} s after the last sign of life")
        for chunk in chunks
        for one in chunk.recoveries
    )


def _steps(chunk: ChunkStatus) -> str:
    """How far each attempt went; `→` is a takeover from a snapshot. `*`: proved by a rehearsal."""
    parts = [f"{attempt.step}–{attempt.reached}" for attempt in chunk.attempts if attempt.reached]
    return (" → ".join(parts) + ("*" if chunk.is_protected else "")) or "–"


def money_text(account: Money) -> str:
    """The totals of a job."""
    evidence = f"for evidence {money(account.evidence)}, " if account.evidence else ""
    held = f"held {money(account.held)} until {time_text(account.held_until)} UTC" if account.held else ""
    free = f"not leased {money(account.free)}" if account.free else ""
    parts = ", ".join(part for part in (held, free) if part)
    return (
        f"set aside {money(account.cap)}: paid {money(account.paid)}, commission {money(account.commission)}, "
        f"{evidence}refunded {money(account.refunded)}, pending {money(account.pending)}"
        f"{f' ({parts})' if parts else ''}; slashed from providers {money(account.slashed)}"
    )


def jobs_text(jobs: list[JobSummary]) -> str:
    """One line per job."""
    rows = [(one.job, one.name, one.state, f"{one.accepted}/{one.steps}", time_text(one.created)) for one in jobs]
    return table(("job", "name", "state", "steps", "created (UTC)"), rows) or "no jobs yet"


def next_commands(job: str) -> str:
    """What one usually does next."""
    return "\n".join(
        (
            "useful commands:",
            f"  shoal job status {job}",
            f"  shoal job logs {job} --follow",
            f"  shoal job result {job} --to ./result",
            f"  shoal job receipt {job} --verify",
            f"  shoal job cancel {job}",
        )
    )


def _ends(chunk: ChunkStatus) -> str:
    return "; ".join(attempt.end for attempt in chunk.attempts if attempt.end) or "–"


def rate_text(uplink: int) -> str:
    """Bytes per second as people are sold them."""
    return f"{uplink * 8 / 1e6:.3g} Mbit/s" if uplink else "unknown"


def at_most(seconds: float | None) -> str:
    """A span rounded up: what is lost at most."""
    if seconds is None:
        return "unknown"
    whole = math.ceil(seconds)
    return f"{whole} s" if whole < 120 else f"{math.ceil(whole / 60)} min"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _seconds(value: float | None) -> str:
    return "an unknown time" if value is None else span_text(int(value * 1_000_000))
