"""Progress of simulations: a bar per run where a person watches, a line per finished run elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from shoal.output import Output

REDRAWS_PER_S: Final = 4
"""Faster would only take time from the simulation."""

Told = Callable[[int, int], None]
"""Called with how much is done, in the unit of `total`, and how many events that took (0: not counted)."""


@contextmanager
def bar(out: Output, label: str, total: int) -> Iterator[Told]:
    """A bar on stderr until the block ends; where nobody watches, nothing."""
    if not out.is_live:
        yield _nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[events]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, refresh_per_second=REDRAWS_PER_S) as shown:
        task = shown.add_task(label, total=total, events="")

        def tell(done: int, events: int) -> None:
            shown.update(task, completed=done, events=f"{events:,} events" if events else "")

        yield tell


def _nothing(done: int, events: int) -> None:
    """Nobody watches."""
