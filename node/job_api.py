"""`job.*` of the control socket: the jobs that this node's steward carries. Spec: specs/16-control.md."""

from __future__ import annotations

from typing import Final

import msgspec

from node.control import Emit
from node.control_methods import (
    JobExtendParams,
    JobListParams,
    JobLogsParams,
    JobParams,
    JobPlanParams,
    JobSubmitParams,
)
from node.parts import Parts
from node.proof_views import plan_trust, proof_view, quoted_trust
from node.safety_view import hosts_view, safety_view
from node.views import Plain, job_text, job_view, peer_or_empty, quote_view
from protocol import wire
from protocol.errors import Refused, Unavailable
from protocol.identity import peer_from_text, peer_text
from protocol.job_record import ChunkRecord, JobRecord
from protocol.jobcodec import spec_from_plain
from protocol.jobspec import JobSpec, Manifest
from protocol.matching import Plan
from protocol.units import Digest, JobId, PeerId
from storage import exposure

MANIFEST_BYTES_MAX: Final = 16 << 20
"""Bytes of an output manifest: 2,048 files with the longest paths."""

_manifest_decoder: Final = wire.decoder(Manifest)


def jobs_page(records: list[JobRecord], limit: int, cursor: str) -> tuple[list[JobRecord], str]:
    """Newest first; the cursor is the text id of the last job shown."""
    ordered = sorted(records, key=lambda record: (-record.created, record.job))
    start = 0
    if cursor:
        start = next(
            (index + 1 for index, record in enumerate(ordered) if job_text(record.job) == cursor), len(ordered)
        )
    page = ordered[start : start + limit]
    return page, job_text(page[-1].job) if start + limit < len(ordered) and page else ""


class JobApi:
    """`job.*`: jobs that this node's steward carries."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def _job(self, text: str) -> JobId:
        return JobId(wire.raw_id("job", text, 16))

    def _view(self, job: JobId) -> Plain:
        parts, found = self._parts, self._parts.steward.job(job)
        record = found.record
        ledger, now = parts.ledger(), parts.now()

        def more(chunk: ChunkRecord) -> Plain:
            return safety_view(found, chunk, now) | proof_view(chunk, record.escrow, ledger, now)

        view = job_view(record, ledger, now, more=more)
        view["trust"] = quoted_trust(record.spec, record.chunk_price_max)
        if record.state == "quoted":
            plan = parts.plan(record.spec, PeerId(record.renter), now)
            view["quote"] = {**quote_view(record), "hosts": hosts_view(found, plan)}
        return view

    async def _resolved(self, plain: dict[str, object], renter: str) -> JobSpec:
        """The specification, with the versions of the volumes that it names."""
        spec, volumes = spec_from_plain(plain), self._parts.volumes
        return spec if volumes is None else await volumes.resolved(spec, peer_from_text(renter))

    async def plan(self, params: JobPlanParams) -> Plain:
        """Who could run it, for how much, and who could not and why. Commits nobody."""
        parts = self._parts
        spec = await self._resolved(params.spec, params.renter)
        return plan_view(parts.plan(spec, peer_from_text(params.renter), parts.now()), spec)

    async def submit(self, params: JobSubmitParams) -> Plain:
        """Plan and quote; nothing is paid before `confirm`."""
        parts = self._parts
        known = await self._resolved(params.spec, params.renter)
        missing = [file.path for file in known.files if not parts.blobs.has(Digest(file.digest))]
        if missing:
            raise Refused(
                f"{len(missing)} input file(s) are not uploaded: {', '.join(missing[:5])}",
                code="missing_blobs",
                fix="Upload the files first.",
            )
        parts.blobs.put(wire.encode(known))
        record, plan, effects = parts.steward.submit(known, peer_from_text(params.renter), params.key, parts.now())
        parts.driver.command(parts.steward, lambda now: effects)
        return {**self._view(JobId(record.job)), "plan": plan_view(plan, known)}

    async def confirm(self, params: JobParams) -> Plain:
        """Fund the escrow and go."""
        parts, found = self._parts, self._job(params.job)
        parts.driver.command(parts.steward, lambda now: parts.steward.confirm(found, now))
        return self._view(found)

    async def cancel(self, params: JobParams) -> Plain:
        """End it early."""
        parts, found = self._parts, self._job(params.job)
        parts.driver.command(parts.steward, lambda now: parts.steward.cancel(found, now))
        return self._view(found)

    async def extend(self, params: JobExtendParams) -> Plain:
        """Put more of the renter's credits into the job's escrow, while it is quoted or running."""
        parts, found = self._parts, self._job(params.job)
        parts.driver.command(
            parts.steward, lambda now: parts.steward.extend(found, params.spend_cap, params.timeout, now)
        )
        return self._view(found)

    async def status(self, params: JobParams) -> Plain:
        """Everything about one job."""
        return self._view(self._job(params.job))

    async def list(self, params: JobListParams) -> Plain:
        """Newest first, a page at a time."""
        owner = peer_from_text(params.renter) if params.renter else None
        records = [
            job.record for job in self._parts.steward.jobs.values() if owner is None or job.record.renter == owner
        ]
        page, following = jobs_page(records, params.limit, params.cursor or "")
        ledger, now = self._parts.ledger(), self._parts.now()
        return {
            "jobs": [job_view(record, ledger, now, is_whole=False) for record in page],
            "next_cursor": following,
        }

    async def logs(self, params: JobLogsParams, emit: Emit) -> None:
        """Lines in order of arrival, each with its number; ends when the job is over."""
        parts, found = self._parts, self._job(params.job)
        prefix = f"log/{found.hex()}/"
        record = parts.steward.job(found).record
        since = 0 if params.since is None else params.since + 1
        while True:
            start = parts.events.next_sequence
            is_over = record.is_final
            for _, value in parts.records.scan(prefix, f"{prefix}{since:012d}"):
                sequence, time, chunk, line = msgspec.msgpack.decode(value, type=tuple[int, int, int, str])
                await emit({"sequence": sequence, "time": time, "chunk": chunk, "line": line})
                since = sequence + 1
            if is_over or not params.follow:
                return
            async for event in parts.events.follow(start):
                if event.name in ("log", "job") and event.fields.get("job") == found.hex():
                    break

    async def result(self, params: JobParams) -> Plain:
        """The files of the result: the reduce step's, or every chunk's under its number."""
        record = self._parts.steward.job(self._job(params.job)).record
        steps = record.chunks[-1:] if record.spec.reduce else record.chunks
        if not all(step.is_done for step in steps):
            raise Unavailable(
                f"the job is {record.state}: its result is not complete",
                code="not_ready",
                fix="Wait for the job to settle.",
            )
        files: list[Plain] = []
        for step in steps:
            body = self._parts.blobs.read(Digest(step.output), MANIFEST_BYTES_MAX)
            prefix = "" if record.spec.reduce else f"{step.index}/"
            manifest = wire.decode(body, _manifest_decoder, self._parts.identity.peer, MANIFEST_BYTES_MAX)
            files += [
                {"path": prefix + file.path, "digest": file.digest.hex(), "size": file.size, "chunk": step.index}
                for file in manifest.files
            ]
        return {"files": files}

    async def receipt(self, params: JobParams) -> Plain:
        """All certified operations of the job's escrow, with their proofs: verifiable by anyone, offline."""
        record = self._parts.steward.job(self._job(params.job)).record
        if not record.escrow:
            raise Refused(
                "the job has no escrow yet: nothing was ordered for it", code="not_ready", fix="Confirm the job."
            )
        items = [value for _, value in self._parts.records.scan(f"receipt/{record.escrow.hex()}/")]
        whole = {"chain": self._parts.config.network, "job": record.job, "escrow": record.escrow, "receipts": items}
        return {"receipt": msgspec.msgpack.encode(whole)}


def plan_view(plan: Plan, spec: JobSpec) -> Plain:
    """A plan as plain values."""
    state = exposure.state_of(spec)
    return {
        "candidates": [
            {
                "peer": peer_text(item.peer),
                "price_per_hour": item.price_per_hour,
                "chunk_price": item.chunk_price,
                "executor": item.executor,
                "slots": item.slots,
                "reputation": item.reputation / 1_000_000,
                "region": item.region,
                "latency_ms": None if item.latency is None else -(-item.latency // 1_000),
                "uplink": item.uplink,
                "worst_case_loss_s": item.loss / 1_000_000,
                "is_exposed": item.is_exposed,
                "loss": exposure.words(spec, item.uplink),
            }
            for item in plan.candidates
        ],
        "excluded": [
            {"peer": peer_or_empty(item.peer), "code": item.code, "detail": item.detail} for item in plan.excluded
        ],
        "price_min": plan.price_min,
        "price_max": plan.price_max,
        "worst_case_loss_s": plan.worst_case_loss / 1_000_000,
        "state_bytes": state.size if spec.is_protected else 0,
        "is_state_guessed": state.is_guess,
        "start_estimate_s": None if plan.start_estimate is None else plan.start_estimate / 1_000_000,
        "size": plan.size,
        "trust": plan_trust(spec, plan),
    }
