"""How plots look: one light style, colours that the colour-blind can tell apart, units on every axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Final, Literal

from simulations.extras import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#1f2933"
FAINT: Final = "#6b7785"
GRID: Final = "#e4e8ec"

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5f5f5f")
"""Okabe and Ito, "Color Universal Design" (2008), in the order that keeps neighbours apart; yellow and black left out:
the one is invisible on white, the other is ink."""

WIDTH: Final = 7.2
HEIGHT: Final = 4.2
"""Inches: a text column of a paper."""

DPI: Final = 200


@contextmanager
def style() -> Iterator[None]:
    """Draw within this; matplotlib's own settings are untouched behind it."""
    need("matplotlib")
    import matplotlib as mpl

    with mpl.rc_context(
        {
            "font.family": "DejaVu Sans",
            "font.size": 9.0,
            "axes.edgecolor": FAINT,
            "axes.labelcolor": INK,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": GRID,
            "grid.linewidth": 0.8,
            "xtick.color": FAINT,
            "ytick.color": FAINT,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "legend.frameon": False,
            "legend.fontsize": 8.5,
            "legend.title_fontsize": 8.5,
            "svg.hashsalt": "shoal",
            "svg.fonttype": "path",
        }
    ):
        yield


def colours(count: int) -> list[str]:
    """One per group: distinct hues for a few, a scale from dark to light for many (points of a sweep have an order)."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    need("matplotlib")
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    scale = colormaps["viridis"]
    return [to_hex(scale(0.92 * index / (count - 1))) for index in range(count)]


def sheet(
    title: str, about: str, panels: int = 1, across: bool = False, height: float = HEIGHT
) -> tuple[Figure, list[Axes]]:
    """An empty figure with a title at the left, a line about the data under it, and panels (side by side: `across`)."""
    need("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # The engine knows one title only; title and the line about the data stand in a strip that is kept free of it.
    engine = ConstrainedLayoutEngine(rect=(0.01, 0.01, 0.98, 0.98 - 0.56 / height))
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white", layout=engine)
    FigureCanvasAgg(figure)
    figure.text(0.015, 1 - 0.12 / height, title, fontsize=12, fontweight="bold", color=INK, va="top")
    figure.text(0.015, 1 - 0.36 / height, about, fontsize=8.5, color=FAINT, va="top")
    rows, columns = (1, panels) if across else (panels, 1)
    grid = figure.subplots(rows, columns, squeeze=False)
    return figure, [axes for row in grid for axes in row]


def say(axes: Axes, text: str) -> None:
    """An empty panel that says why it is empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=FAINT, fontsize=10, wrap=True)


def encoded(figure: Figure, form: Literal["svg", "png"]) -> bytes:
    """The image's bytes; no dates in them, so that equal data give equal files."""
    into = BytesIO()
    figure.savefig(into, format=form, metadata={"Date": None} if form == "svg" else {"Software": None})
    return into.getvalue()


def span_unit(longest_s: float) -> tuple[float, str]:
    """(seconds in the unit, its name) that suits times up to this."""
    for seconds, name in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if longest_s >= 3 * seconds:
            return seconds, name
    return 1.0, "s"


def seeds_text(seeds: Sequence[int]) -> str:
    """How many runs, and what the band is."""
    least, most = min(seeds, default=0), max(seeds, default=0)
    count = f"{least}" if least == most else f"{least} to {most}"
    if most <= 1:
        return "1 seed: no interval"
    return f"{count} seeds; mean and 95 % interval of the mean (Student's t over seeds)"
