"""From a recorder to tables that researchers know: polars frames, tidy, one row per measurement.

Metrics frame, one row per sample: seed (Int64), name (String), at_s (Float64), peer (Int32), value (Float64). Totals
and figures of histograms (`gossip/latency/p99`) are rows whose at_s and peer are null. Histogram frame, one row per
bucket: seed, name, low, high, count (Int64), in the unit of what was observed.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from math import sqrt
from typing import TYPE_CHECKING, Final, Literal

from protocol.errors import Refused
from simulations.extras import need
from simulations.recorder import Recorder
from simulations.scenario import NS

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

QUANTILES: Final = (("p5", 0.05), ("p25", 0.25), ("p50", 0.5), ("p75", 0.75), ("p95", 0.95), ("p99", 0.99))
"""Figures of a histogram that the metrics frame holds by name, besides count, mean, min and max."""

# fmt: off
T_95: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)
# fmt: on
"""Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom (NIST e-Handbook 1.3.6.7.2, 2012)."""

Z_95: Final = 1.959964
"""The same of the normal distribution, for the expansion beyond 30 degrees (Abramowitz & Stegun 26.7.5, 1964)."""


def metrics(recorder: Recorder, seed: int) -> pl.DataFrame:
    """The metrics frame of one run."""
    need("polars")
    import polars as pl

    names, which, at, peers, values = recorder.columns()
    samples = pl.DataFrame(
        {
            "seed": pl.Series([seed], dtype=pl.Int64).new_from_index(0, len(values)),
            "name": pl.Series(names, dtype=pl.String).gather(pl.Series(which, dtype=pl.UInt32)),
            "at_s": pl.Series(at, dtype=pl.Int64).cast(pl.Float64) / NS,
            "peer": pl.Series(peers, dtype=pl.Int32),
            "value": pl.Series(values, dtype=pl.Float64),
        }
    )
    totals = [(name, float(recorder.counts[name])) for name in sorted(recorder.counts)]
    for name, histogram in recorder.histograms().items():
        totals += [
            (f"{name}/count", float(histogram.count)),
            (f"{name}/mean", histogram.sum / histogram.count),
            (f"{name}/min", float(histogram.minimum)),
            (f"{name}/max", float(histogram.maximum)),
            *((f"{name}/{word}", float(histogram.quantile(q))) for word, q in QUANTILES),
        ]
    rows = [(seed, name, None, None, value) for name, value in totals]
    return pl.concat([samples, pl.DataFrame(rows, schema=samples.schema, orient="row")])


def histograms(recorder: Recorder, seed: int) -> pl.DataFrame:
    """The histogram frame of one run."""
    need("polars")
    import polars as pl

    rows = [
        (seed, name, low, high, count)
        for name, histogram in recorder.histograms().items()
        for low, high, count in histogram.buckets()
    ]
    whole = dict.fromkeys(("low", "high", "count"), pl.Int64)
    return pl.DataFrame(rows, schema={"seed": pl.Int64, "name": pl.String, **whole}, orient="row")


def quantiles(buckets: pl.DataFrame) -> pl.DataFrame:
    """Per seed and name of a histogram frame: count and the figures of QUANTILES, within half a bucket."""
    need("polars")
    import polars as pl

    rows = []
    for (seed, name), part in buckets.sort("low").group_by(["seed", "name"], maintain_order=True):
        reached = part["count"].cum_sum()
        total = int(reached[-1])
        middles = ((part["low"] + part["high"]) // 2).to_list()
        places = [int(reached.search_sorted(max(1, -int(-q * total // 1)))) for _, q in QUANTILES]
        rows.append((seed, name, total, *(middles[place] for place in places)))
    words = dict.fromkeys(("count", *(word for word, _ in QUANTILES)), pl.Int64)
    schema = {"seed": pl.Int64, "name": pl.String, **words}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("name", "seed")


def summary(frame: pl.DataFrame) -> pl.DataFrame:
    """Per name, over seeds: seeds, mean, median, low and high of the mean's 95 % interval.

    A seed's figure is the mean of its samples. The interval is Student's t with seeds - 1 degrees of freedom: seeds are
    independent runs, samples within one are not. One seed has no interval: low and high are null.
    """
    need("polars")
    import polars as pl

    runs = frame.group_by("name", "seed").agg(pl.col("value").mean())
    rows = []
    for (name,), part in runs.sort("name", "seed").group_by(["name"], maintain_order=True):
        values = part["value"].to_list()
        middle, low, high = interval(values)
        rows.append((name, len(values), middle, part["value"].median(), low, high))
    words = dict.fromkeys(("mean", "median", "low", "high"), pl.Float64)
    return pl.DataFrame(rows, schema={"name": pl.String, "seeds": pl.Int64, **words}, orient="row")


def interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """(mean, low, high): the 95 % t interval of the mean of independent values; None where there is only one."""
    n = len(values)
    if not n:
        raise ValueError("no values have no mean")
    mean = sum(values) / n
    if n == 1:
        return mean, None, None
    spread = t_95(n - 1) * sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    return mean, mean - spread, mean + spread


def t_95(degrees: int) -> float:
    """Student's t, two-sided 95 %, for one degree of freedom or more; error below 0.001."""
    if degrees <= len(T_95):
        return T_95[degrees - 1]
    z = Z_95
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def encoded(frame: pl.DataFrame, form: Literal["parquet", "csv"]) -> bytes:
    """The frame as a file's bytes; Parquet with zstd, readable by pandas, DuckDB, R."""
    into = BytesIO()
    if form == "parquet":
        frame.write_parquet(into, compression="zstd")
    else:
        frame.write_csv(into)
    return into.getvalue()


def read(path: Path) -> pl.DataFrame:
    """A frame that was written here, by the ending of its name. Raises `Refused` (`bad_run`) when it cannot be read."""
    need("polars")
    import polars as pl

    types = {"seed": pl.Int64, "name": pl.String, "at_s": pl.Float64, "peer": pl.Int32, "value": pl.Float64}
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path.read_bytes())
        return pl.read_csv(path.read_bytes(), schema=types)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise Refused(f"{path} cannot be read: {error}", code="bad_run", fix="Run the scenario again.") from error
