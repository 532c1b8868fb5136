"""Runs of the simulator as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from shoal.output import table

if TYPE_CHECKING:
    from shoal.sim import Summary
    from simulations.compare import Difference

AUDITOR_CHARS: Final = 16
"""Of an auditor's hash in tables; --json has all of it."""

CHANGES_MAX: Final = 30
"""Figures that differ shown in a table, the largest change first; --json has all."""


def line(run: Summary) -> str:
    """One finished run."""
    if run.was_there:
        return f"seed {run.seed}: was there already, in {run.folder}"
    broken = f"; {run.violations} violations, see {run.folder}/violations" if run.violations else ""
    attacks = "".join(f"\n  {sentence}" for sentence in run.attacks)
    return f"seed {run.seed}: {run.events:,} events in {run.seconds:.1f} s{broken}{attacks}"


def runs(found: Sequence[Summary]) -> str:
    """All runs of a command."""
    rows = [
        (
            one.seed,
            one.auditor[:AUDITOR_CHARS],
            f"{one.events:,}",
            f"{one.rate:,.0f}",
            one.violations or "none",
            one.folder,
        )
        for one in found
    ]
    return table(("seed", "auditor", "events", "per second", "violations", "folder"), rows, right=(0, 2, 3))


def difference(found: Difference) -> str:
    """Two runs side by side."""
    if found.is_same:
        return "the same run, event by event"
    parts = [table(("input", "first", "second"), [(one.key, one.first, one.second) for one in found.inputs])]
    if found.parting is not None:
        at = found.parting
        what = f"event {at.number:,}" if at.number >= 0 else "the events"
        parts.append(f"{what} differs, after {at.at_s:.6f} s:\n  first   {at.first}\n  second  {at.second}")
    rows = [(one.name, _figure(one.first), _figure(one.second)) for one in found.changes[:CHANGES_MAX]]
    parts.append(table(("figure", "first", "second"), rows, right=(1, 2)))
    return "\n\n".join(part for part in parts if part)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:,.6g}"
