"""How safe a running chunk is, for its renter: what a death would cost now, who stands by, what was survived before."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from node.views import Plain, peer_or_empty
from protocol.job import Job
from protocol.job_record import ChunkRecord
from protocol.matching import Plan
from protocol.snapshots import Manifest
from protocol.units import Micros
from storage import exposure

UNPROVED: Final = {
    "framework": "its rehearsal is not over",
    "application": "what the program saves itself is not rehearsed",
    "process": "an image of processes is not rehearsed",
}
"""Why a chunk with a durable snapshot is not called protected, unless something is known to be wrong."""


def safety_view(job: Job, chunk: ChunkRecord, now: Micros) -> Plain:
    """What `job.status` says of one chunk's protection."""
    succession = job.leasing.succession
    newest = succession.newest(chunk)
    manifest = newest[1] if newest else None
    return {
        "tier": manifest.tier if manifest else "",
        "protection": protection_words(job, chunk, manifest),
        "kept": chunk.kept if manifest else "",
        "snapshot_taken": manifest.taken if manifest else None,
        "lost_now_s": _lost_now(chunk, manifest, now),
        "standby": peer_or_empty(succession.standby(chunk.index) or b"") if chunk.is_leased else "",
        "recoveries": [
            {
                "epoch": later.epoch,
                "reached": earlier.reached,
                "step": later.step,
                "seconds": (later.went_on - earlier.heard) / 1e6 if later.went_on and earlier.heard else None,
            }
            for earlier, later in pairwise(chunk.attempts)
            if later.step
        ],
    }


def protection_words(job: Job, chunk: ChunkRecord, manifest: Manifest | None) -> str:
    """Protected, or why not; empty where there is nothing to protect."""
    if chunk.state == "accepted":
        return ""
    if not job.record.spec.is_protected:
        return "off"
    if manifest is None:
        return f"not protected: {chunk.exposed or 'no snapshot is durable yet'}"
    if chunk.is_protected or manifest.inherited:  # States that are signed for need no rehearsal: every run reads them.
        return f"protected, but: {chunk.exposed}" if chunk.exposed else "protected"
    return f"not proved: {chunk.exposed or UNPROVED.get(manifest.tier, manifest.tier)}"


def _lost_now(chunk: ChunkRecord, manifest: Manifest | None, now: Micros) -> float | None:
    """Seconds of work that are lost if its provider dies now; None while nothing is computed."""
    if chunk.state not in ("leased", "running") or not chunk.attempts:
        return None
    attempt = chunk.attempts[-1]
    since = max(attempt.went_on or attempt.started, min(now, manifest.taken) if manifest else 0)
    return max(0, now - since) / 1e6


def hosts_view(job: Job, plan: Plan) -> list[Plain]:
    """What a quoted job may lose at each host that could run it."""
    spec = job.record.spec
    return [
        {
            "peer": peer_or_empty(one.peer),
            "chunk_price": one.chunk_price,
            "uplink": one.uplink,
            "worst_case_loss_s": one.loss / 1e6,
            "is_exposed": one.is_exposed,
            "loss": exposure.words(spec, one.uplink),
        }
        for one in plan.candidates
    ]
