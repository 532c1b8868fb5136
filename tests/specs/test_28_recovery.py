"""specs/28-recovery.md against storage.interval, storage.hazard, protocol.handover, protocol.reclaim, node.triggers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import cast, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from node import triggers
from protocol import examination, handover, reclaim, secret_box, standby, succession
from protocol.identity import Identity
from protocol.job_record import Attempt
from protocol.units import HOUR, SECOND, Micros
from storage import hazard, interval, protection
from tests.protocol import test_succession

SPEC = specs.load("28-recovery")
LIVES = 20_000
"""Lives of a host per row: the efficiency is then exact to about half a percent."""

spans = st.integers(0, 2 * HOUR)


def test_constants_are_those_of_the_code() -> None:
    found = {}
    for module in (interval, hazard, handover, examination, reclaim, succession, standby, protection):
        found.update({name: getattr(module, name) for name in SPEC.constants if hasattr(module, name)})
    assert found == SPEC.constants


def test_the_classes_of_hosts() -> None:
    rows = {row["class of host"]: int(row["prior mean uptime, h"]) for row in SPEC.table("hazard")}
    assert rows == {name: span // HOUR for name, span in hazard.MEAN_UPTIME.items()}
    assert set(rows) == set(get_args(hazard.HostClass))


def test_the_profiles() -> None:
    assert [row["profile"] for row in SPEC.table("how often a chunk is saved")] == list(get_args(interval.Profile))


@given(st.integers(0, 1 << 50))
def test_how_long_a_steward_waits_for_a_snapshot(size: int) -> None:
    assert SPEC.functions["patience"](size) == examination.patience(size)


@given(
    profile=st.sampled_from(["min-loss", "max-efficiency"]),
    stall=spans, way=spans, step=spans, expected=st.integers(1, 10_000 * HOUR), every=spans,
)  # fmt: skip
def test_interval_rule(profile: interval.Profile, stall: int, way: int, step: int, expected: int, every: int) -> None:
    spans_of = (Micros(stall), Micros(way), Micros(step), Micros(expected), Micros(every))
    assert SPEC.functions["interval"](profile, stall, way, step, expected, every) == (
        interval.plan(profile, *spans_of).interval
    )


@given(
    st.integers(0, 9), st.integers(1, 1_000), st.lists(st.tuples(st.integers(0, 12), st.integers(1, 50)), max_size=8)
)
def test_the_pause_of_a_takeover(step: int, heard: int, spans: list[tuple[int, int]]) -> None:
    earlier, later = Attempt(1, bytes(32), 0), Attempt(2, bytes(32), heard, step=step)
    earlier.beat(step, heard)
    now, beats = heard, []
    for reached, span in spans:
        now += span
        later.beat(reached, now)
        beats.append((reached, now))
    told = later.went_on - earlier.heard if later.went_on else None
    assert told == SPEC.functions["pause"](step, heard, beats)


@pytest.mark.parametrize("row", SPEC.table("what the renter is told"), ids=lambda row: row["state"])
def test_what_the_renter_is_told(row: specs.Row) -> None:
    size = int(row["bytes"])
    for rate in (10, 40, 100, 500, 1_000):
        said = int(row[f"{rate} mbit/s"])
        exact = SPEC.functions["loss"](size, rate * 125_000)
        assert exact == interval.worst_case_loss(size, rate * 125_000, "min-loss")
        assert said == -(-exact // SECOND), "in whole seconds, rounded up"


@pytest.mark.parametrize("row", SPEC.table("what intervals are worth"), ids=lambda row: f"{row['tau, s']} s")
def test_what_intervals_are_worth(row: specs.Row) -> None:
    """The Monte-Carlo table again, with other dice; and the closed form beside it."""
    mean, tau, delta, recovery = (
        float(row["mean uptime, h"]) * 3600, float(row["tau, s"]), float(row["delta, s"]), float(row["recovery, s"])
    )  # fmt: skip
    simulate = cast("Callable[..., tuple[float, float]]", SPEC.functions["life_of"])
    share, lost = simulate(random.Random(7), mean, tau, delta, recovery, LIVES)
    assert share * 100 == pytest.approx(float(row["efficiency, %"]), abs=0.6)
    assert lost == pytest.approx(float(row["lost p99, s"]), rel=0.03)
    closed = interval.efficiency(*(Micros(round(part * SECOND)) for part in (tau, delta, recovery, mean)))
    assert closed == pytest.approx(share, abs=0.02 if recovery < 100 else 0.15), "first order"


def test_the_intervals_of_young_are_the_best_of_their_rows() -> None:
    rows = SPEC.table("what intervals are worth")
    for mean, tau in (("4", 76), ("24", 186)):
        mine = [row for row in rows if row["mean uptime, h"] == mean]
        best = max(mine, key=lambda row: float(row["efficiency, %"]))
        assert int(best["tau, s"]) == tau
        assert round(interval.young_daly(Micros(200_000), Micros(int(mean) * HOUR)) / SECOND) == tau


@given(
    progress=st.integers(0, 1_000_000),
    before=st.integers(0, 990_000),
    elapsed=spans,
    estimate=st.integers(1_000, HOUR),
    shown=st.integers(0, 1_000_000),
)
def test_share_rule(progress: int, before: int, elapsed: int, estimate: int, shown: int) -> None:
    said = SPEC.functions["done_share"](progress, before, elapsed, estimate, shown)
    assert said == handover.done_share(progress, before, Micros(elapsed), Micros(estimate), shown)


@given(step=st.integers(0, 2**62), units=st.integers(0, 4096))
def test_what_a_snapshot_shows(step: int, units: int) -> None:
    assert SPEC.functions["shown_share"](step, units) == handover.shown_share(step, units)


def test_phases_are_those_of_the_machine() -> None:
    rows = SPEC.table("handing over")
    before = {name for row in rows for name in row["phase"].split(", ")}
    after = {row["next"] for row in rows}
    assert (before | after) - {"any before the end"} == set(get_args(reclaim.Phase))
    ends = after - before
    assert ends == reclaim.OVER


def test_triggers_are_those_of_the_code() -> None:
    rows = SPEC.table("events that do not wait")
    assert {row["kind"] for row in rows} == set(get_args(triggers.Kind))
    assert {row["what happens"].split(",")[0] for row in rows} == set(get_args(triggers.Act))
    notices = {(row["kind"], row["what happens"].partition(", ")[2]) for row in rows}
    assert ("heat", f"{triggers.HEAT_NOTICE // SECOND} s") in notices
    assert ("hours", f"{triggers.HOURS_NOTICE // SECOND} s") in notices
    assert triggers.NOTICE == reclaim.NOTICE


@given(steward=st.binary(min_size=32, max_size=32), job=st.binary(min_size=16, max_size=16), op=st.binary(max_size=32))
def test_secrets_are_derived_and_sealed_as_written(steward: bytes, job: bytes, op: bytes) -> None:
    mine, theirs = Identity(steward), Identity(bytes([7]) * 32)
    secret = SPEC.functions["job_secret"](steward, job)
    assert secret == succession.job_secret(mine, job)
    box = SPEC.functions["sealed"](steward, mine.peer, theirs.peer, op, secret)
    assert box == secret_box.seal(mine, theirs.peer, op, secret)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=8))
def test_the_steward_believes_what_is_news(told: list[tuple[int, int, int]]) -> None:
    job, worker = test_succession.record(), test_succession.WORKER
    known = succession.Succession(job, test_succession.STEWARD, test_succession.NETWORK)
    chunk = job.chunks[0]
    for epoch, number, step in told:
        chunk.epoch = epoch
        place = (chunk.snapshot_epoch, chunk.snapshot_number, chunk.step)
        made = test_succession.manifest(number=number, step=step, epoch=epoch)
        heard = known.noticed(worker.peer, test_succession.notice(made))
        assert bool(heard) == SPEC.functions["is_news"](epoch, number, step, *place)
