"""The interval between snapshots: its bounds, what decides it, urgent cuts, and what the renter is told."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.units import DAY, HOUR, MINUTE, SECOND, Micros
from storage.hazard import Hazard
from storage.interval import (
    INTERVAL_MAX,
    INTERVAL_MIN,
    UPLINK_GUESS,
    Cadence,
    Profile,
    efficiency,
    loss_words,
    plan,
    upload_time,
    worst_case_loss,
    young_daly,
)

START = Micros(20_000 * DAY)
MS = 1_000
profiles = st.sampled_from(["min-loss", "max-efficiency"])
spans = st.integers(0, 2 * HOUR).map(Micros)


def cadence(profile: Profile = "min-loss", every: int = 0, uplink: int = 0) -> Cadence:
    return Cadence(profile, Micros(every), Hazard(), Micros(START - HOUR), START, uplink)


def test_young_and_daly_as_in_the_table() -> None:
    assert [round(young_daly(Micros(200 * MS), Micros(h * HOUR)) / SECOND) for h in (4, 24)] == [76, 186]


@pytest.mark.parametrize(
    ("profile", "stall", "upload", "step", "every", "seconds", "reason"),
    [
        ("min-loss", 50 * MS, 0, 0, 0, 10, "least"),
        ("min-loss", 200 * MS, 0, 0, 0, 20, "stall"),
        ("min-loss", 200 * MS, 32 * SECOND, 0, 0, 32, "uplink"),
        ("min-loss", 200 * MS, 0, 45 * SECOND, 0, 45, "step"),
        ("min-loss", 20 * SECOND, 0, 0, 0, 300, "limit"),
        ("max-efficiency", 200 * MS, 0, 0, 0, 75, "hazard"),
        ("max-efficiency", 20 * SECOND, 0, 0, 0, 300, "limit"),
        ("max-efficiency", 200 * MS, 100 * SECOND, 0, 0, 100, "uplink"),
        ("min-loss", 200 * MS, 0, 0, 3 * SECOND, 3, "asked"),
        ("min-loss", 200 * MS, 32 * SECOND, 0, 3 * SECOND, 32, "uplink"),
        ("max-efficiency", 0, 0, 0, 60 * SECOND, 60, "asked"),
    ],
)
def test_what_decides(
    profile: Profile, stall: int, upload: int, step: int, every: int, seconds: int, reason: str
) -> None:
    found = plan(profile, Micros(stall), Micros(upload), Micros(step), every=Micros(every))
    assert (found.interval // SECOND, found.reason, found.keeps_limit) == (seconds, reason, True)


def test_an_uplink_that_cannot_keep_the_limit_is_told() -> None:
    slow = plan("min-loss", Micros(0), Micros(6 * MINUTE))
    assert (slow.interval, slow.reason, slow.keeps_limit) == (6 * MINUTE, "uplink", False)


@given(profile=profiles, stall=spans, upload=spans, step=spans, expected=st.integers(1, 60 * DAY), every=spans)
def test_bounds(profile: Profile, stall: Micros, upload: Micros, step: Micros, expected: int, every: Micros) -> None:
    found = plan(profile, stall, upload, step, Micros(expected), every)
    assert found.interval >= max(upload, step), "never before the last one is durable, never within a step"
    if every:
        assert found.interval == max(upload, step, every)
    else:
        assert INTERVAL_MIN <= found.interval <= max(INTERVAL_MAX, upload, step)
    assert found.keeps_limit == (max(upload, step) <= max(INTERVAL_MAX, every))


def test_the_first_snapshot_comes_early_and_the_next_when_it_is_durable() -> None:
    """0.5 GB on 40 Mbit/s: 160 s each; nothing is cut while the last one is on its way."""
    job = cadence(uplink=5_000_000)
    assert not job.is_due(Micros(START + INTERVAL_MIN - 1))
    now = Micros(START + INTERVAL_MIN)
    assert job.is_due(now)
    job.cut(now)
    assert not job.is_due(Micros(now + HOUR))
    job.sealed(Micros(2 * MS), 480_000_000, now)
    assert not job.is_due(Micros(now + HOUR)), "not durable"
    done = Micros(now + 160 * SECOND)
    job.durable(done)
    assert job.due_at(done) == done
    assert job.is_due(done)
    assert job.plan(done).reason == "uplink"


def test_a_measured_uplink_counts_more_with_every_snapshot() -> None:
    job, now = cadence(uplink=5_000_000), START
    found = []
    for _ in range(12):
        job.cut(now)
        job.sealed(Micros(2 * MS), 30_000_000, now)
        now = Micros(now + 20 * SECOND)  # 1.5 MB/s at 60 %: a line of 2.5 MB/s
        job.durable(now)
        found.append(job.plan(now).interval)
    assert found == sorted(found)
    assert abs(found[-1] - 20 * SECOND) < SECOND


def test_the_stall_is_measured_and_limits_how_often() -> None:
    job, now = cadence(), START
    for _ in range(20):
        job.cut(now)
        job.sealed(Micros(500 * MS), 1_000, now)
        job.durable(Micros(now + MS))
    assert job.plan(now).reason == "stall"
    assert abs(job.plan(now).interval - 50 * SECOND) < SECOND, "one percent"


def test_an_urgent_cut_waits_for_no_interval_and_for_no_upload() -> None:
    job, now = cadence(), START
    job.urge()
    assert job.is_due(now)
    assert job.due_at(now) == now
    job.cut(now)
    job.urge()
    assert not job.is_due(now), "one is being cut"
    job.sealed(Micros(MS), 100_000_000, now)
    assert job.is_due(now), "even while that one is on its way"
    job.cut(now)
    assert not job.is_urgent


def test_a_failed_snapshot_is_tried_again_after_an_interval() -> None:
    job = cadence()
    job.cut(START)
    job.failed()
    assert not job.is_due(START)
    assert job.is_due(Micros(START + job.plan(START).interval))
    job.durable(START)
    assert job.plan(START).interval == INTERVAL_MIN, "of a snapshot that is none, nothing is measured"


def test_a_job_file_that_asks_for_one_second_gets_it() -> None:
    job = cadence(every=SECOND)
    assert job.is_due(Micros(START + SECOND))


@given(acts=st.lists(st.sampled_from(["cut", "sealed", "durable", "failed", "urge", "step", "wait"]), max_size=40))
def test_any_history_leaves_a_plan_and_never_two_cuts_at_once(acts: list[str]) -> None:
    job, now, cutting = cadence(), START, False
    for act in acts:
        match act:
            case "cut":
                job.cut(now)
                cutting = True
            case "sealed":
                job.sealed(Micros(3 * MS), 5_000_000, now)
                cutting = False
            case "durable":
                job.durable(now)
            case "failed":
                job.failed()
                cutting = False
            case "urge":
                job.urge()
            case "step":
                job.stepped(Micros(2 * SECOND))
            case _:
                now = Micros(now + 4 * SECOND)
        assert not (cutting and job.is_due(now))
        assert job.plan(now).interval >= INTERVAL_MIN


def test_worst_cases_by_class_of_job() -> None:
    """specs/28-recovery.md, the table of what a renter is told: bytes of state against the uplink, `min-loss`."""
    classes = (240_000_000, 480_000_000, 4_200_000_000, 18_000_000_000)
    rates = [mbit * 125_000 for mbit in (10, 40, 100, 500, 1_000)]
    for size, rate in itertools.product(classes, rates):
        loss = worst_case_loss(size, rate, "min-loss")
        upload = upload_time(size, rate)
        assert loss == upload + max(upload, INTERVAL_MIN)
        assert worst_case_loss(size, rate, "max-efficiency") >= loss
    assert worst_case_loss(480_000_000, 0, "min-loss") == worst_case_loss(480_000_000, UPLINK_GUESS, "min-loss")
    assert worst_case_loss(1_000, 12_500_000, "min-loss", Micros(2 * SECOND)) < 3 * SECOND


def test_the_renter_is_told_in_plain_words() -> None:
    assert loss_words(1_000_000, 12_500_000, "min-loss") == (
        "at most 11 s of work is lost if this host dies: 1 MB of state at 100 Mbit/s are safe 1 s after each snapshot"
    )
    slow = loss_words(18_000_000_000, 5_000_000, "min-loss")
    assert slow.startswith("at most 200 min of work is lost if this host dies: 18.0 GB of state at 40 Mbit/s")
    assert slow.endswith("choose a host with a faster uplink, or save less")
    assert "(not measured yet)" in loss_words(1_000_000, 0, "min-loss")


@given(stall=st.integers(1, 10 * SECOND).map(Micros), mean=st.integers(HOUR, 30 * DAY).map(Micros))
def test_no_interval_beats_young_and_daly(stall: Micros, mean: Micros) -> None:
    best = young_daly(stall, mean)
    here = efficiency(best, stall, Micros(0), mean)
    for other in (best * 2, best // 2 + 1, best + SECOND):
        assert efficiency(Micros(other), stall, Micros(0), mean) <= here + 1e-6
