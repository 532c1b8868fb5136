"""What the node shows of itself: records and ledger state as plain values for the control socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from protocol import operations, wire
from protocol.carried import waiting
from protocol.escrow_state import Carried
from protocol.identity import peer_text
from protocol.job_record import ChunkRecord, JobRecord
from protocol.ledger import Ledger
from protocol.messages import Offer
from protocol.units import PeerId

Plain = dict[str, object]

CLASS_NAMES: Final = {
    "U": "free",
    "E": "escrow",
    "S": "stake",
    "B": "unbonding",
    "T": "treasury",
    "F": "fees",
    "R": "reserve",
}


def peer_or_empty(peer: bytes) -> str:
    """Text form, or '' where there is none."""
    return peer_text(PeerId(peer)) if peer else ""


def job_text(job: bytes) -> str:
    """`job_…`."""
    return wire.text_id("job", job)


def account_text(key: tuple[str, bytes]) -> str:
    """An account as people read it: `free 12D3…`, `escrow esc_…`, `fees`."""
    name, owner = CLASS_NAMES[key[0]], key[1]
    if key[0] in "TFR":
        return name
    return f"{name} {operations.escrow_text(owner) if key[0] == 'E' else peer_or_empty(owner)}"


def chunk_view(chunk: ChunkRecord) -> Plain:
    """One step of a job."""
    return {
        "index": chunk.index,
        "state": chunk.state,
        "epoch": chunk.epoch,
        "provider": peer_or_empty(chunk.provider),
        "executor": chunk.executor,
        "price": chunk.price,
        "outcome": chunk.outcome,
        "code": chunk.code,
        "is_audited": chunk.is_audited,
        "auditor": peer_or_empty(chunk.auditor),
        "output": chunk.output.hex(),
        "step": chunk.step,
        "progress_ppm": chunk.progress_ppm,
        "snapshot_bytes": chunk.snapshot_bytes,
        "is_protected": chunk.is_protected,
        "attempts": [
            {
                "epoch": item.epoch,
                "provider": peer_or_empty(item.provider),
                "started": item.started,
                "ended": item.ended,
                "end": item.end,
                "step": item.step,
                "reached": item.reached,
            }
            for item in chunk.attempts
        ],
    }


_TOTALS: Final = (
    "paid", "commission", "evidence", "refunded", "slashed", "pending", "held", "held_until", "free"
)  # fmt: skip


def here(until: int, ledger: Ledger, now: int) -> int:
    """A deadline of the ledger on this machine's clock: the ledger's own stands still while nothing is ordered, so that
    it is this late at the earliest."""
    return now + max(0, until - ledger.time) if until else 0


def money_view(record: JobRecord, ledger: Ledger, now: int, with_lines: bool) -> Plain:
    """The escrow of a job: totals, and every move. At every moment cap = paid + commission + evidence + refunded +
    pending. Pending is what is promised to running leases, their auditors and handed over shares, what is `held` for
    disputes, and what is `free` to be leased or to go back. `now` and `held_until`: of this machine's clock. A job
    that ended long ago has totals only: every move is in its receipt."""
    escrow = ledger.escrows.get(record.escrow)
    if escrow is None:
        past = ledger.bygone.get(record.escrow)
        known = {name: getattr(past, name, 0) for name in _TOTALS}
        return {"cap": record.cap if past is None else past.cap, **known, "lines": []}
    chunks = escrow.chunks.values()
    open_items = ledger.held_in(escrow.id)
    held = sum(item.price * item.is_pay + item.evidence for item in open_items)
    free = ledger.available("E", escrow.id)
    leased = sum(chunk.price + chunk.evidence for chunk in chunks if chunk.state in ("assigned", "claimed"))
    shares = sum(item.amount for chunk in chunks if chunk.carried for item in waiting(chunk))
    until = max((max(item.until, item.rule_by) for item in open_items), default=0) if held else 0
    view: Plain = {
        "cap": escrow.cap,
        "paid": escrow.paid,
        "commission": escrow.commission,
        "evidence": escrow.evidence,
        "refunded": escrow.refunded,
        "slashed": escrow.slashed,
        "pending": leased + shares + held + free,
        "held": held,
        "held_until": here(until, ledger, now),
        "free": free,
        "lines": [],
    }
    if with_lines:
        view["lines"] = [
            {
                "time": line.time,
                "from": account_text(line.debit),
                "to": account_text(line.credit),
                "amount": line.amount,
                "kind": line.kind,
                "note": line.note,
            }
            for line in escrow.lines
        ]
    return view


def job_state(record: JobRecord, ledger: Ledger) -> str:
    """The state to show. A job is over once this node's own ledger has closed its escrow, or closes it as soon as what
    is held has been paid: the receipt that ends it may come a block before the copy that the money is read from."""
    escrow = ledger.escrows.get(record.escrow)
    is_open = escrow is not None and not (escrow.is_closed or escrow.is_closing)
    return "settling" if record.is_final and is_open else record.state


def quote_view(record: JobRecord) -> Plain:
    """What a job costs at most, and until when that holds."""
    return {"total_max": record.cap, "chunk_price_max": record.chunk_price_max, "expires": record.quote_expires}


def job_view(
    record: JobRecord,
    ledger: Ledger,
    now: int,
    is_whole: bool = True,
    more: Callable[[ChunkRecord], Plain] = lambda chunk: {},
) -> Plain:
    """A job's status; chunks and money lines only when whole. `now`: of this machine's clock. `more`: what else is
    known of a chunk."""
    view: Plain = {
        "job": job_text(record.job),
        "name": record.spec.name,
        "state": job_state(record, ledger),
        "reason": record.reason,
        "renter": peer_or_empty(record.renter),
        "created": record.created,
        "confirmed": record.confirmed,
        "finished": record.finished,
        "escrow": operations.escrow_text(record.escrow) if record.escrow else "",
        "quote": quote_view(record),
        "steps": len(record.chunks),
        "accepted": sum(1 for chunk in record.chunks if chunk.state == "accepted"),
        "runtime": record.spec.runtime,
        "spec": record.spec_digest.hex(),
        "log_lines": record.log_lines,
        "money": money_view(record, ledger, now, is_whole),
        "result": record.chunks[-1].output.hex() if record.state == "settled" and record.spec.reduce else "",
    }
    if is_whole:
        view["chunks"] = [{**chunk_view(chunk), **more(chunk)} for chunk in record.chunks]
    return view


def offer_view(
    peer: PeerId, offer: Offer, is_connected: bool, liveness: str, reputation_ppm: int, stake: int, seen: int
) -> Plain:
    """A peer as its newest offer and the ledger show it."""
    return {
        "peer": peer_text(peer),
        "roles": list(offer.roles),
        "addresses": list(offer.addresses),
        "connected": is_connected,
        "liveness": liveness,
        "slots": offer.slots,
        "slots_free": offer.slots_free,
        "price_per_hour": offer.price_per_hour,
        "executors": list(offer.executors),
        "runtimes": [item.name for item in offer.runtimes],
        "gpus": msgspec.to_builtins(offer.capability.gpus),
        "capability": msgspec.to_builtins(offer.capability),
        "reputation": reputation_ppm / 1_000_000,
        "stake": stake,
        "is_draining": offer.is_draining,
        "seen": seen,
    }


def share_view(provider: PeerId, ledger: Ledger) -> list[Plain]:
    """Shares of chunks that this provider handed over: waiting for the chunk's end, paid, or void."""
    found: list[Plain] = []
    for job, index, item in _shares(ledger):
        if item.provider != provider:
            continue
        fee = operations.commission(item.amount)
        is_paid = item.outcome == "paid"
        found.append(
            {
                "job": job_text(job),
                "chunk": index,
                "epoch": item.epoch,
                "done_ppm": item.done_ppm,
                "amount": item.amount - fee,
                "commission": fee,
                "paid": item.amount - fee if is_paid else 0,
                "state": item.outcome or "waiting",
            }
        )
    return found


def _shares(ledger: Ledger) -> Iterator[tuple[bytes, int, Carried]]:
    """(job, chunk, share) of every handover, of jobs that ended long ago first."""
    for past in ledger.bygone.values():
        yield from ((past.job, index, item) for index, item in past.shares)
    for escrow in ledger.escrows.values():
        for chunk in escrow.chunks.values():
            yield from ((escrow.job, chunk.chunk, item) for item in chunk.carried)
