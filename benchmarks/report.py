"""Figures as people and programs read them: medians with their spread in a table, everything in build/bench.json."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
import psutil
from msgspec import Struct
from rich.console import Console
from rich.table import Table

FOLDER: Final = Path(__file__).parents[1] / "build"
"""Where the JSON and the flame graphs go."""


class Aim(Struct, frozen=True):
    """What a figure should be."""

    bound: Literal["least", "most"]
    value: float

    def is_met(self, value: float) -> bool:
        """Whether the value is on the right side of the bound, or on it."""
        return value >= self.value if self.bound == "least" else value <= self.value


class Figure(Struct, frozen=True):
    """One quantity, measured one or more times in one run."""

    name: str
    unit: str
    values: tuple[float, ...]
    aim: Aim | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


class Machine(Struct, frozen=True):
    """Where and beside what it was measured. A load well above zero before the start makes all figures worse."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    load_before: float


def machine() -> Machine:
    """The facts of this machine, now."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    memory = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0))
    return Machine(model, cores, round(memory, 1), platform.release(), platform.python_version(), os.getloadavg()[0])


def write(facts: Machine, figures: Sequence[Figure], path: Path) -> None:
    """All values, with median, least and most beside them."""
    rows = [
        msgspec.to_builtins(figure) | {"median": figure.median, "least": min(figure.values), "most": max(figure.values)}
        for figure in figures
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    body = msgspec.json.encode({"machine": facts, "figures": rows})
    path.write_bytes(msgspec.json.format(body, indent=1) + b"\n")


def show(facts: Machine, figures: Sequence[Figure]) -> None:
    """The table."""
    title = (
        f"{facts.cpu}, {facts.cores} cores, {facts.memory_gib} GiB, Linux {facts.kernel}, "
        f"Python {facts.python}, load before {facts.load_before:.1f}"
    )
    table = Table(title=title, title_justify="left")
    for column in ("figure", "unit"):
        table.add_column(column)
    for column in ("median", "least", "most", "n", "aim", "met"):
        table.add_column(column, justify="right")
    table.add_column("note", overflow="fold")
    for one in figures:
        aim = "" if one.aim is None else f"{'≥' if one.aim.bound == 'least' else '≤'} {number(one.aim.value)}"
        met = "" if one.aim is None else "yes" if one.aim.is_met(one.median) else "no"
        ends = (number(min(one.values)), number(max(one.values))) if len(one.values) > 1 else ("", "")
        table.add_row(one.name, one.unit, number(one.median), *ends, str(len(one.values)), aim, met, one.note)
    Console(width=None if os.isatty(1) else 170).print(table)


def number(value: float) -> str:
    """Three figures that count.

    >>> number(0.01234), number(1234.5), number(12.0)
    ('0.0123', '1,234', '12')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
