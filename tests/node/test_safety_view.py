"""What `job.status` says of a chunk's safety, from what the steward has checked and what the worker says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from msgspec import structs

from node.safety_view import hosts_view, safety_view
from protocol.identity import peer_text
from protocol.job import Job
from protocol.job_record import Attempt, ChunkRecord
from protocol.jobspec import Checkpoint, Chunk, JobSpec
from protocol.matching import Candidate, Plan
from protocol.operations import Inherited
from protocol.snapshots import Manifest, Pack
from protocol.units import SECOND, Credits, Micros, PeerId

NOW = Micros(1_800_000_000 * SECOND)
WORKER, STANDBY = PeerId(b"w" * 32), PeerId(b"b" * 32)
SPEC = JobSpec("job", "python", ("true",), (Chunk(),), checkpoint=Checkpoint())
PACK = Pack(100, 100, "copy", 1, 3, (bytes(32),))
MANIFEST = Manifest(
    b"j" * 16, b"e" * 32, 0, 2, 5, 1840, 0, "framework", NOW - 7 * SECOND, 500_000_000, 10, (PACK,)
)  # fmt: skip


def job(manifest: Manifest | None = None, spec: JobSpec = SPEC, standby: PeerId | None = STANDBY) -> Job:
    """A job whose succession knows this snapshot and this standby."""
    newest = (b"", manifest) if manifest else None
    succession = SimpleNamespace(newest=lambda chunk: newest, standby=lambda chunk: standby)
    return cast(
        "Job", SimpleNamespace(leasing=SimpleNamespace(succession=succession), record=SimpleNamespace(spec=spec))
    )


def chunk(**changes: object) -> ChunkRecord:
    one = ChunkRecord(0, "running", 2, WORKER)
    one.attempts = [Attempt(1, WORKER, NOW - 90 * SECOND, NOW - 50 * SECOND, "dead", 0, 1350, NOW - 56 * SECOND),
                    Attempt(2, WORKER, NOW - 51 * SECOND, step=1320, went_on=NOW - 49_580_000)]  # fmt: skip
    for name, value in changes.items():
        setattr(one, name, value)
    return one


def test_a_protected_chunk() -> None:
    view = safety_view(job(MANIFEST), chunk(is_protected=True, kept="kept by 3 peers"), NOW)
    assert (view["protection"], view["tier"], view["kept"]) == ("protected", "framework", "kept by 3 peers")
    assert (view["lost_now_s"], view["standby"]) == (7.0, peer_text(STANDBY))
    assert view["recoveries"] == [{"epoch": 2, "reached": 1350, "step": 1320, "seconds": 6.42}]


def test_signed_units_need_no_rehearsal() -> None:
    said = (Inherited(2, 7, bytes(32), bytes(64)),)
    units = structs.replace(MANIFEST, tier="application", inherited=said)
    assert safety_view(job(units), chunk(), NOW)["protection"] == "protected"
    kept = chunk(exposed="receipts from 1 failure domain")
    assert safety_view(job(units), kept, NOW)["protection"] == "protected, but: receipts from 1 failure domain"


def test_why_a_chunk_is_not_protected() -> None:
    assert safety_view(job(), chunk(exposed="an async for"), NOW)["protection"] == "not protected: an async for"
    early = safety_view(job(), chunk(), NOW)
    assert early["protection"] == "not protected: no snapshot is durable yet"
    assert early["lost_now_s"] == 49.58, "since it went on from the snapshot of its predecessor"
    assert safety_view(job(MANIFEST), chunk(), NOW)["protection"] == "not proved: its rehearsal is not over"
    differs = safety_view(job(MANIFEST), chunk(exposed="weights differ"), NOW)
    assert differs["protection"] == "not proved: weights differ"
    but = safety_view(job(MANIFEST), chunk(is_protected=True, exposed="nobody there"), NOW)
    assert but["protection"] == "protected, but: nobody there"


def test_nothing_to_protect() -> None:
    done = safety_view(job(MANIFEST), chunk(state="accepted"), NOW)
    assert (done["protection"], done["lost_now_s"], done["standby"]) == ("", None, "")
    off = JobSpec("job", "python", ("true",), (Chunk(),), checkpoint=Checkpoint(is_on=False))
    assert safety_view(job(spec=off), chunk(), NOW)["protection"] == "off"


def test_a_workers_clock_that_is_ahead_makes_nothing_negative() -> None:
    ahead = structs.replace(MANIFEST, taken=NOW + 9 * SECOND)
    assert safety_view(job(ahead), chunk(), NOW)["lost_now_s"] == 0


def test_a_quoted_job_says_what_is_lost_where() -> None:
    one = Candidate(
        WORKER, Credits(9), Credits(3), "bwrap", 1, 1, 500_000, Credits(0), False, loss=Micros(400 * SECOND)
    )
    (row,) = hosts_view(job(), Plan((one,), (), Credits(3), Credits(3), one.loss, None, "cpu"))
    assert (row["worst_case_loss_s"], row["is_exposed"], row["uplink"]) == (400.0, True, 0)
