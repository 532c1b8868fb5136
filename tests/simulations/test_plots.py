"""Plots: every kind draws, says what is missing, writes the numbers that it shows, and equal data give equal files."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import polars as pl
import pytest

from protocol.errors import Refused
from simulations import frames, plot_data, plots
from simulations.plot_data import Group
from simulations.recorder import Recorder
from simulations.scenario import Plot
from tests.simulations.recorded import recorded

KINDS: tuple[Plot, ...] = ("delivery_cdf", "makespan", "payout", "attack_cost", "throughput", "timeline")


def group(label: str, runs: dict[int, Recorder]) -> Group:
    metrics = pl.concat([frames.metrics(run, seed) for seed, run in runs.items()])
    return Group(label, metrics, pl.concat([frames.histograms(run, seed) for seed, run in runs.items()]), len(runs))


@pytest.fixture(scope="module")
def sweep() -> list[Group]:
    return [group(f"n = {n}", {seed: recorded(seed, n, True, 1 + n / 100) for seed in (1, 2, 3)}) for n in (20, 40)]


@pytest.fixture(scope="module")
def nothing() -> list[Group]:
    return [group("nothing", {1: Recorder()})]


def text_of(path: Path) -> str:
    """What a drawing says: matplotlib leaves the text of its glyphs as comments."""
    assert ET.parse(path).getroot().tag.endswith("svg")
    return "\n".join(re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"), re.DOTALL))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_is_drawn_with_its_numbers(kind: Plot, sweep: list[Group], tmp_path: Path) -> None:
    paths = plots.draw([kind], sweep, tmp_path, "churn")
    assert [path.name for path in paths] == [f"{kind}.svg", f"{kind}.png", f"{kind}.csv"]
    said = text_of(paths[0])
    assert "3 seeds; mean and 95 % interval" in said
    assert "churn" in said
    assert any(unit in said for unit in ("[ms]", "[min]", "[credits]"))
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    table = pl.read_csv(paths[2])
    assert set(table["group"]) == {"n = 20", "n = 40"}
    assert table.filter(pl.col("low") > pl.col("y")).is_empty()
    assert table["low"].null_count() == 0


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("delivery_cdf", "no statement was delivered"),
        ("makespan", "no job was finished"),
        ("payout", "nobody was paid"),
        ("attack_cost", "has an adversary"),
        ("throughput", "no samples of jobs/done"),
        ("timeline", "no samples of peers/up"),
    ],
)
def test_missing_data_are_said(kind: Plot, words: str, nothing: list[Group], tmp_path: Path) -> None:
    paths = plots.draw([kind], nothing, tmp_path)
    assert words in text_of(paths[0])
    assert pl.read_csv(paths[2]).is_empty()


def test_equal_data_give_equal_files(sweep: list[Group], tmp_path: Path) -> None:
    first = plots.draw(["timeline"], sweep, tmp_path / "a")
    second = plots.draw(["timeline"], sweep, tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    paths = plots.draw(["makespan"], [group("only", {1: recorded(1)})], tmp_path)
    assert "1 seed: no interval" in text_of(paths[0])
    assert pl.read_csv(paths[2])["low"].null_count() > 0


def test_unknown_plots_and_no_runs_are_refused(sweep: list[Group], tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        plots.draw(["pie"], sweep, tmp_path)  # type: ignore[list-item]  # What a careless caller writes.
    assert refused.value.code == "unknown_plot"
    with pytest.raises(Refused) as refused:
        plots.draw(["payout"], [], tmp_path)
    assert refused.value.code == "no_runs"


def test_missing_matplotlib_says_what_to_install(
    sweep: list[Group], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Refused) as refused:
        plots.draw(["payout"], sweep, tmp_path)
    assert refused.value.code == "missing_library"


def test_distributions_end_at_one(sweep: list[Group]) -> None:
    for curve in (*plot_data.deliveries(sweep), *plot_data.distribution(sweep, "job/makespan")):
        assert curve.y[-1] == 1.0
        assert all(one <= other + 1e-12 for one, other in zip(curve.y, curve.y[1:], strict=False))


def test_the_median_delivery_is_where_it_was_recorded(sweep: list[Group]) -> None:
    curve = plot_data.deliveries(sweep)[0]
    place = next(x for x, y in zip(curve.x, curve.y, strict=True) if y >= 0.5)
    figures = frames.quantiles(sweep[0].histograms).filter(pl.col("name") == "gossip/latency")
    mean = figures["p50"].cast(pl.Float64).mean()
    assert isinstance(mean, float)
    assert place == pytest.approx(mean / 1e6, rel=0.05)


def test_rates_count_what_ended(sweep: list[Group]) -> None:
    for curve in plot_data.rates(sweep, "jobs/done", 3_600.0):
        width_h = 2 * curve.x[0] / 3_600
        assert sum(curve.y) * width_h == pytest.approx(50)
