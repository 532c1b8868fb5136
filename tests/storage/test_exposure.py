"""What a job may lose at a host is told before the start, from what the job says of its state or from a guess."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from protocol.jobspec import Checkpoint, Chunk, GpuNeed, JobSpec, Resources
from protocol.units import GIB, HOUR, SECOND, Micros
from storage import exposure
from storage.interval import worst_case_loss

SPEC = JobSpec(
    "train",
    "torch",
    ("python train.py",),
    (Chunk(),),
    resources=Resources(memory_bytes=8 * GIB),
    timeout=Micros(2 * HOUR),
    checkpoint=Checkpoint(state_bytes=240_000_000),
)
FAST, SLOW = 12_500_000, 1_250_000


def test_a_stated_size_is_no_guess() -> None:
    assert exposure.state_of(SPEC) == exposure.State(240_000_000, False)
    assert exposure.loss(SPEC, FAST) == worst_case_loss(240_000_000, FAST, "min-loss")
    assert "240 MB of state at 100 Mbit/s" in exposure.words(SPEC, FAST)
    assert "guess" not in exposure.words(SPEC, FAST)


def test_a_guess_says_that_it_is_one() -> None:
    unsaid = msgspec.structs.replace(SPEC, checkpoint=Checkpoint())
    assert exposure.state_of(unsaid) == exposure.State(2 * GIB, True)
    assert "(a guess from the memory asked for)" in exposure.words(unsaid, FAST)
    cards = Resources(memory_bytes=GIB, gpu=GpuNeed(memory_bytes_min=24 * GIB, count=2))
    assert exposure.state_of(msgspec.structs.replace(unsaid, resources=cards)).size == 12 * GIB


def test_no_more_is_lost_than_a_chunk_may_take() -> None:
    short = msgspec.structs.replace(SPEC, timeout=Micros(90 * SECOND))
    assert exposure.loss(short, SLOW) == 90 * SECOND
    assert "at most 90 s" in exposure.words(short, SLOW)


def test_without_snapshots_everything_is_lost() -> None:
    off = msgspec.structs.replace(SPEC, checkpoint=Checkpoint(is_on=False))
    assert exposure.loss(off, FAST) == off.timeout
    assert exposure.words(off, FAST).startswith("no snapshots are taken")


@given(slow=st.integers(0, 10**9), more=st.integers(0, 10**9), state=st.integers(1, 10**12))
def test_a_faster_line_never_loses_more(slow: int, more: int, state: int) -> None:
    spec = msgspec.structs.replace(SPEC, checkpoint=Checkpoint(state_bytes=state))
    slow = slow or SLOW
    assert exposure.loss(spec, slow + more) <= exposure.loss(spec, slow) <= spec.timeout
