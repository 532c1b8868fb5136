"""Plots of a run or of a sweep: SVG for papers, PNG for pages, and the data that is drawn as .csv.

Measurements that a run does not have leave a panel that says so. Units: times in the samples are s, money is credits,
`gossip/latency` is ns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from protocol.errors import Refused
from simulations import frames, landing, plot_data
from simulations.plot_data import Curve, Group, Mark
from simulations.plot_style import FAINT, INK, colours, encoded, say, seeds_text, sheet, span_unit, style
from simulations.scenario import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMS: Final[tuple[Literal["svg", "png"], ...]] = ("svg", "png")

Drawn = tuple["Figure", list[Curve], list[Mark]]


def draw(kinds: Sequence[Plot], groups: Sequence[Group], folder: Path, about: str = "") -> list[Path]:
    """Each kind as <folder>/<kind>.svg, .png and .csv. Returns the paths. `about`: what was simulated, for the title.

    Raises `Refused`: `unknown_plot`, `no_runs`, `missing_library`, `disk_full`."""
    if not groups:
        raise Refused("there are no runs to plot", code="no_runs", fix="Run the scenario first.")
    written = []
    for kind in kinds:
        if kind not in _PLOTS:
            raise Refused(
                f"there is no plot `{kind}`", code="unknown_plot", fix=f"Choose from {', '.join(get_args(Plot))}."
            )
        with style():
            figure, curves, points = _PLOTS[kind](groups, f" · {about}" if about else "")
            files: dict[str, bytes] = {form: encoded(figure, form) for form in FORMS}
        files["csv"] = frames.encoded(plot_data.table(groups, curves, points), "csv")
        for form, data in files.items():
            path = folder / f"{kind}.{form}"
            landing.write(path, data)
            written.append(path)
    return written


# ── the plots ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _delivery_cdf(groups: Sequence[Group], about: str) -> Drawn:
    curves = plot_data.deliveries(groups)
    figure, (axes,) = sheet(f"How fast statements spread{about}", _seeds(groups))
    if not curves:
        say(axes, "no statement was delivered by gossip in these runs")
        return figure, [], []
    _lines(axes, curves, groups)
    axes.set_xscale("log")
    axes.set_xlabel("time from publication to delivery [ms]")
    axes.set_ylabel("share of deliveries")
    _shares(axes)
    _plain_log(axes)
    for share, word in ((0.5, "p50"), (0.99, "p99")):
        axes.axhline(share, color=FAINT, linewidth=0.7, linestyle=(0, (4, 3)))
        text = axes.get_yaxis_transform()
        axes.text(0.006, share - 0.008, word, transform=text, fontsize=7.5, color=FAINT, va="top")
    _legend(axes, groups, "lower right")
    return figure, curves, []


def _makespan(groups: Sequence[Group], about: str) -> Drawn:
    curves = plot_data.distribution(groups, "job/makespan")
    points = plot_data.marks(groups, ["job/makespan"], "mean makespan")
    figure, (left, right) = sheet(f"How long jobs take{about}", _seeds(groups), 2, across=True, height=_tall(groups))
    if not curves:
        for axes in (left, right):
            say(axes, "no job was finished in these runs")
        return figure, [], []
    unit, name = span_unit(max(curve.x[-1] for curve in curves))
    _lines(left, curves, groups, scale=1 / unit)
    left.set_xlabel(f"makespan: submission to last result [{name}]")
    left.set_ylabel("share of jobs")
    left.set_xlim(left=0)
    _shares(left)
    _whiskers(right, points, groups, 1 / unit)
    right.set_xlabel(f"mean makespan [{name}]")
    return figure, curves, points


def _payout(groups: Sequence[Group], about: str) -> Drawn:
    wanted = plot_data.names(groups, "payout/")
    points = plot_data.marks(groups, wanted, "payout per peer")
    figure, (axes,) = sheet(
        f"Who earns what{about}", f"dots: peers; {_seeds(groups)}", height=_tall(groups, len(wanted))
    )
    if not points:
        say(axes, "nobody was paid in these runs")
        return figure, [], []
    _rows(axes, points, groups, wanted, [name.removeprefix("payout/") for name in wanted])
    axes.set_xlabel("payout per peer over the run [credits]")
    _legend(axes, groups, "best")
    return figure, [], points


def _attack_cost(groups: Sequence[Group], about: str) -> Drawn:
    found = plot_data.names(groups, "attack/")
    money = [name for name in found if name.endswith(("/cost", "/gain"))]
    times = [name for name in found if name.endswith("/detected_s")]
    tall = _tall(groups, max(len(money), 1))
    figure, (left, right) = sheet(f"What cheating costs and brings{about}", _seeds(groups), 2, True, tall)
    points = plot_data.marks(groups, money, "credits")
    found_out = plot_data.marks(groups, times, "detection")
    if points:
        _rows(left, points, groups, money, [_attack(name) for name in money])
        left.axvline(0, color=INK, linewidth=0.8)
        left.set_xlabel("cost and gain of the attack [credits]")
        _legend(left, groups, "best")
    else:
        say(left, "no scenario of these has an adversary")
    if found_out:
        unit, name = span_unit(max(max(one.values) for one in found_out))
        _rows(right, found_out, groups, times, [_attack(name) for name in times], 1 / unit)
        right.set_xlim(0, 1.08 / unit * max(max(*one.values, one.high or 0.0) for one in found_out))
        right.set_xlabel(f"time until it was detected [{name}]")
    else:
        say(right, "no attack was detected" if points else "nothing to detect")
    return figure, [], [*points, *found_out]


def _throughput(groups: Sequence[Group], about: str) -> Drawn:
    panels = (("jobs/done", 3_600.0, "jobs finished\nper hour"), ("chunks/done", 60.0, "chunks finished\nper minute"))
    figure, both = sheet(f"What the network gets done{about}", _seeds(groups), len(panels), height=4.8)
    drawn: list[Curve] = []
    for axes, (name, per_s, label) in zip(both, panels, strict=True):
        curves = plot_data.rates(groups, name, per_s)
        drawn += curves
        if not curves:
            say(axes, f"no samples of {name} in these runs")
            continue
        _over_time(axes, curves, groups)
        axes.set_ylabel(label)
    _legend(both[0], groups, "best")
    return figure, drawn, []


def _timeline(groups: Sequence[Group], about: str) -> Drawn:
    panels = (("jobs/running", "jobs running"), ("peers/up", "peers up"))
    faults = plot_data.spans(groups)
    note = f"shaded: {', '.join(sorted({kind for kind, _, _ in faults}))} (first seed); " if faults else ""
    figure, both = sheet(f"The run over time{about}", note + _seeds(groups), len(panels), height=4.8)
    drawn: list[Curve] = []
    for axes, (name, label) in zip(both, panels, strict=True):
        curves = plot_data.levels(groups, name)
        drawn += curves
        if not curves:
            say(axes, f"no samples of {name} in these runs")
            continue
        unit = _over_time(axes, curves, groups)
        axes.set_ylabel(label)
        for _, start, end in faults:
            axes.axvspan(start / unit, end / unit, color="#d55e00", alpha=0.10, linewidth=0)
    _legend(both[0], groups, "best")
    return figure, drawn, []


_PLOTS: Final[dict[str, Callable[[Sequence[Group], str], Drawn]]] = {
    "delivery_cdf": _delivery_cdf,
    "makespan": _makespan,
    "payout": _payout,
    "attack_cost": _attack_cost,
    "throughput": _throughput,
    "timeline": _timeline,
}


# ── parts of plots ───────────────────────────────────────────────────────────────────────────────────────────────────
def _lines(axes: Axes, curves: Sequence[Curve], groups: Sequence[Group], scale: float = 1.0) -> None:
    """Means as lines over their bands."""
    shades = colours(len(groups))
    for curve in curves:
        x = [place * scale for place in curve.x]
        shade = shades[curve.group]
        low = [edge for edge in curve.low if edge is not None]
        high = [edge for edge in curve.high if edge is not None]
        if len(low) == len(high) == len(x):
            axes.fill_between(x, low, high, color=shade, alpha=0.18, linewidth=0)
        axes.plot(x, curve.y, color=shade, linewidth=1.7, label=groups[curve.group].label, solid_joinstyle="round")


def _over_time(axes: Axes, curves: Sequence[Curve], groups: Sequence[Group]) -> float:
    """Lines over simulated time. Returns the seconds in the axis' unit."""
    end = max(curve.x[-1] for curve in curves)
    unit, name = span_unit(end)
    _lines(axes, curves, groups, 1 / unit)
    axes.set_xlabel(f"simulated time [{name}]")
    axes.set_xlim(0, end / unit)
    axes.set_ylim(bottom=0)
    return unit


def _whiskers(axes: Axes, points: Sequence[Mark], groups: Sequence[Group], scale: float) -> None:
    """One line per group: mean and interval."""
    shades = colours(len(groups))
    for one in points:
        _whisker(axes, one, one.group, shades[one.group], scale)
    axes.set_yticks(range(len(groups)), [group.label for group in groups])
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.08 * scale * max(max(one.mean, one.high or 0.0) for one in points))


def _rows(
    axes: Axes,
    points: Sequence[Mark],
    groups: Sequence[Group],
    wanted: Sequence[str],
    labels: Sequence[str],
    scale: float = 1.0,
) -> None:
    """One row per quantity, the groups under each other in it; single values as faint dots."""
    shades = colours(len(groups))
    for one in points:
        place = wanted.index(one.name) + (one.group - (len(groups) - 1) / 2) * 0.7 / len(groups)
        axes.plot(
            [value * scale for value in one.values], [place] * len(one.values), linestyle="", marker="o", markersize=3,
            color=shades[one.group], alpha=0.16, markeredgewidth=0,
        )  # fmt: skip
        _whisker(axes, one, place, shades[one.group], scale)
    axes.set_yticks(range(len(wanted)), list(labels))
    axes.set_ylim(len(wanted) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")


def _whisker(axes: Axes, one: Mark, place: float, shade: str, scale: float) -> None:
    if one.low is not None and one.high is not None:
        axes.plot([one.low * scale, one.high * scale], [place, place], color=shade, linewidth=1.8)
        for edge in (one.low, one.high):
            axes.plot([edge * scale] * 2, [place - 0.06, place + 0.06], color=shade, linewidth=1.8)
    axes.plot([one.mean * scale], [place], marker="o", markersize=6, color=shade, markeredgecolor="white", linestyle="")


def _legend(axes: Axes, groups: Sequence[Group], place: Literal["best", "lower right"]) -> None:
    """Only where there is something to tell apart."""
    if len(groups) < 2 or not axes.axison:
        return
    drawn, labels = axes.get_legend_handles_labels()
    if drawn:
        axes.legend(drawn, labels, loc=place, ncols=1 if len(groups) <= 6 else 2)
        return
    from matplotlib.lines import Line2D

    shades = colours(len(groups))
    handles = [Line2D([], [], color=shade, marker="o", linewidth=1.8) for shade in shades]
    axes.legend(handles, [group.label for group in groups], loc=place)


def _shares(axes: Axes) -> None:
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])


def _plain_log(axes: Axes) -> None:
    """Ticks of a logarithmic axis as plain numbers: 1, 10, 100 and, where they fit, 2 and 5 times these."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _attack(name: str) -> str:
    """`attack/sybil/cost` -> `sybil: cost`; of detections only the strategy."""
    _, strategy, what = name.split("/", 2)
    return strategy if what == "detected_s" else f"{strategy}: {what}"


def _tall(groups: Sequence[Group], rows: int = 1) -> float:
    """Inches: so many that lines and labels do not touch."""
    return max(3.4, 1.4 + 0.26 * rows * max(len(groups), 2))


def _seeds(groups: Sequence[Group]) -> str:
    return seeds_text([group.seeds for group in groups])
