"""Curves of what cheating brings, for the documents: drawn in the simulator's style, from the lives of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from protocol.trust import LEVEL_NAMES
from simulations import landing
from simulations.economy import careers, disputes
from simulations.economy.careers import JOBS, PRICE, STAKE, Life
from simulations.economy.trials import Attack, Trial, trial
from simulations.plot_style import COLOURS, encoded, sheet, style


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a picture: a value on the x axis, and a life to try there."""

    name: str
    points: Sequence[tuple[float, Attack]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the documents."""

    file: str
    title: str
    x: str
    curves: Callable[[], list[Curve]]


def by_share() -> list[Curve]:
    """Leaving a share of every claim undone, at each level of trust."""
    shares = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
    return [
        Curve(
            level,
            [(share, partial(careers.gain, shares=[share] * JOBS, life=Life(level=level))) for share in shares],
        )
        for level in LEVEL_NAMES
    ]


def by_record() -> list[Curve]:
    """One bad claim after a record of good ones, for a poor and a staked provider."""
    records = (0, 1, 3, 10, 30, 100)
    names = {"stake of one lease": PRICE + PRICE // 10, "stake of 10 leases": 10 * PRICE, "recommended stake": STAKE}
    return [
        Curve(
            name,
            [
                (record, partial(careers.gain, shares=[0.0] * record + [1.0], life=Life(stake, rests=True)))
                for record in records
            ],
        )
        for name, stake in names.items()
    ]


def by_collusion() -> list[Curve]:
    """All claims undone, with bought auditors."""
    shares = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    return [
        Curve(level, [(share, partial(careers.bought_auditors, share=share, level=level)) for share in shares])
        for level in LEVEL_NAMES
    ]


def by_ring() -> list[Curve]:
    """A renter and bought auditors against one provider."""
    counts = range(7)
    return [Curve("renter and auditors", [(count / 10, partial(disputes.framing, count=count)) for count in counts])]


PICTURES: Final = (
    Picture("gain-by-share", "Leaving a part of every claim undone", "share of each claim left undone", by_share),
    Picture("gain-by-record", "One bad claim after a good record", "good claims before it", by_record),
    Picture("gain-by-collusion", "All claims undone, with bought auditors", "share of bought auditors", by_collusion),
    Picture("gain-by-ring", "Framing an honest provider", "share of bought auditors", by_ring),
)


def draw(picture: Picture, seeds: int, folder: Path, jobs: int) -> list[tuple[str, float, Trial]]:
    """Write <folder>/<file>.svg; returns (curve, x, trial) of every point."""
    found = [(curve, [(x, trial(life, seeds, jobs=jobs)) for x, life in curve.points]) for curve in picture.curves()]
    with style():
        figure, (axes,) = sheet(picture.title, f"{seeds} seeds each; bars: three standard errors; price of a claim: 1")
        for shade, (curve, points) in zip(COLOURS, found, strict=False):
            x, y = [place for place, _ in points], [one.mean for _, one in points]
            bars = [3 * one.error for _, one in points]
            axes.errorbar(x, y, bars, label=curve.name, color=shade, marker="o", markersize=3, linewidth=1.4)
        axes.axhline(0.0, linewidth=1.0, color="#1f2933")
        axes.set_yscale("symlog", linthresh=1.0)
        axes.set_xlabel(picture.x)
        axes.set_ylabel("gain over honesty [credits]")
        axes.legend()
        landing.write(folder / f"{picture.file}.svg", encoded(figure, "svg"))
    return [(curve.name, x, one) for curve, points in found for x, one in points]
