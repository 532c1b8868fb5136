"""Tables of a recorder: tidy, typed, and an interval that is the textbook's."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

from protocol.errors import Refused
from simulations import frames
from simulations.recorder import Recorder


def recorded() -> Recorder:
    recorder = Recorder()
    recorder.sample("job/makespan", 90.0, 2_500_000_000, 4)
    recorder.sample("peers/up", 7, 3_000_000_000)
    recorder.count("gossip/duplicates", 12)
    for value in range(1, 101):
        recorder.observe("gossip/hops", value)
    return recorder


def test_metrics_are_tidy() -> None:
    frame = frames.metrics(recorded(), 7)
    assert frame.columns == ["seed", "name", "at_s", "peer", "value"]
    assert frame["seed"].unique().to_list() == [7]
    assert frame.row(0) == (7, "job/makespan", 2.5, 4, 90.0)
    assert frame.row(1) == (7, "peers/up", 3.0, -1, 7.0)
    totals = dict(frame.filter(pl.col("at_s").is_null()).select("name", "value").iter_rows())
    assert totals["gossip/duplicates"] == 12
    assert totals["gossip/hops/mean"] == 50.5
    assert totals["gossip/hops/p99"] == 99
    assert (totals["gossip/hops/min"], totals["gossip/hops/max"]) == (1, 100)


def test_empty_recorder_gives_empty_frames() -> None:
    assert frames.metrics(Recorder(), 1).is_empty()
    assert frames.histograms(Recorder(), 1).is_empty()
    assert frames.quantiles(frames.histograms(Recorder(), 1)).is_empty()


def test_quantiles_of_the_frame_are_those_of_the_recorder() -> None:
    row = frames.quantiles(frames.histograms(recorded(), 7)).row(0, named=True)
    histogram = recorded().histograms()["gossip/hops"]
    assert row == {"seed": 7, "name": "gossip/hops", "count": 100} | {
        word: histogram.quantile(q) for word, q in frames.QUANTILES
    }


def test_interval_is_students() -> None:
    # Worked example: 5 values, mean 11, s = 1.5811, t(4) = 2.776 -> 11 ± 1.963.
    mean, low, high = frames.interval([9, 10, 11, 12, 13])
    assert mean == 11
    assert low is not None
    assert high is not None
    assert (round(low, 3), round(high, 3)) == (9.037, 12.963)
    assert frames.interval([4.0]) == (4.0, None, None)
    with pytest.raises(ValueError):
        frames.interval([])


@pytest.mark.parametrize(("degrees", "value"), [(1, 12.706), (30, 2.042), (31, 2.0395), (60, 2.0003), (120, 1.9799)])
def test_t_agrees_with_the_tables(degrees: int, value: float) -> None:
    assert frames.t_95(degrees) == pytest.approx(value, abs=2e-4)


def test_summary_counts_seeds_not_samples() -> None:
    first, second = Recorder(), Recorder()
    for value in (1.0, 3.0):
        first.sample("chunk/run", value, 0)
    second.sample("chunk/run", 4.0, 0)
    both = pl.concat([frames.metrics(first, 1), frames.metrics(second, 2)])
    row = frames.summary(both).row(0, named=True)
    assert (row["name"], row["seeds"], row["mean"], row["median"]) == ("chunk/run", 2, 3.0, 3.0)
    assert row["high"] - row["mean"] == pytest.approx(12.706 * 1.0, rel=1e-6)
    one = frames.summary(frames.metrics(second, 2)).row(0, named=True)
    assert (one["low"], one["high"]) == (None, None)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_files_read_as_they_were_written(form: str, tmp_path: Path) -> None:
    frame = frames.metrics(recorded(), 7)
    path = tmp_path / f"metrics.{form}"
    path.write_bytes(frames.encoded(frame, "parquet" if form == "parquet" else "csv"))
    assert frames.read(path).equals(frame)


@pytest.mark.parametrize("name", ["metrics.parquet", "metrics.csv"])
def test_damaged_files_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"PAR1 this is,no table\n1,2\n")
    with pytest.raises(Refused) as refused:
        frames.read(path)
    assert refused.value.code == "bad_run"


def test_missing_polars_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(Refused) as refused:
        frames.metrics(recorded(), 1)
    assert refused.value.fix == "Run `pip install 'shoal[sim]'`."
