"""What people read of a job's safety: before the start, while it runs, and after a host was lost."""

from __future__ import annotations

from gateway.chunk_schemas import Recovery
from gateway.schemas import Candidate, ChunkStatus, JobStatus, Plan
from shoal.job_text import at_most, plan_text, rate_text, recoveries_text, safety_text, status_text

NEAR = Candidate(
    "12D3KooWNear000000",
    uplink=12_500_000,
    worst_case_loss_s=63.1,
    loss="at most 64 s of work is lost if this host dies",
)
FAR = Candidate("12D3KooWFar0000000", worst_case_loss_s=640.0, is_exposed=True, loss="at most 11 min of work is lost")


def test_a_plan_says_what_is_lost_where() -> None:
    text = plan_text(Plan([NEAR, FAR], start_estimate_s=2.0, state_bytes=240_000_000))
    near, far = text.splitlines()[1:3]
    assert "100 Mbit/s" in near and near.endswith("64 s")
    assert "unknown" in far and far.endswith("11 min !")
    assert "start in about 2.0 s; at most 64 s of work is lost if this host dies" in text
    assert "! more than 5 min of work may be lost with …oWFar0000000: asked after all others" in text
    assert "checkpoint: {state" not in text


def test_a_guess_asks_for_better() -> None:
    text = plan_text(Plan([NEAR], state_bytes=1, is_state_guessed=True))
    assert "`checkpoint: {state: 500MB}`" in text


def test_a_status_says_what_a_death_would_cost_now() -> None:
    chunk = ChunkStatus(
        3, "running", 2, "12D3KooWNear000000", step=1840, tier="framework", protection="protected", lost_now_s=6.2,
        kept="kept by 3 peers in 3 failure domains, any 1 give it back: durable",
        recoveries=[Recovery(2, 1350, 1320, 6.42)],
    )  # fmt: skip
    bare = ChunkStatus(
        4, "running", 1, "12D3KooWFar0000000", protection="not protected: an async for", lost_now_s=130.0
    )
    idle = ChunkStatus(5, protection="not protected: no snapshot is durable yet")
    text = status_text(JobStatus("job_1", chunks=[chunk, bare, idle]))
    assert "at most 7 s" in text and "kept by 3 peers in 3 failure domains" in text
    assert "not protected: an async for" in text and "at most 3 min" in text
    assert "no snapshot is durable yet" not in text, "a chunk that nobody has needs no protection"
    assert "chunk 3 went on at step 1320 of 1350, 6.4 s after the last sign of life" in text


def test_jobs_without_snapshots_have_no_such_table() -> None:
    assert safety_text([ChunkStatus(0, "running", provider="12D3", protection="off"), ChunkStatus(1, "accepted")]) == ""
    assert recoveries_text([ChunkStatus(0)]) == ""


def test_bounds_are_rounded_up() -> None:
    assert (at_most(6.01), at_most(121.0), at_most(None)) == ("7 s", "3 min", "unknown")
    assert (rate_text(12_500_000), rate_text(0)) == ("100 Mbit/s", "unknown")
