"""The tables of docs/durability.md, from what worlds lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from simulations.losses import Loss, Tally

DAY_S = 86_400.0
MEGABIT = 1_000_000
GIGABYTE = 1e9


def tables(worlds: Sequence[tuple[str, bool, Tally]]) -> str:
    """Markdown. `worlds`: (what happened, whether nobody died, what it cost)."""
    struck = [(way, tally) for way, is_calm, tally in worlds if not is_calm]
    calm = [(way, tally) for way, is_calm, tally in worlds if is_calm]
    losses = [loss for _, tally in struck for loss in tally.losses]
    return "\n\n".join((_by_class(losses), _by_way(struck), _detector(calm), _bytes(struck)))


def quantile(values: Sequence[float], share: float) -> float:
    """The value that a share of all does not exceed. 0 of none.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5)
    2.0
    """
    ranked = sorted(values)
    return ranked[max(0, -int(-share * len(ranked) // 1) - 1)] if ranked else 0.0


def _by_class(losses: Sequence[Loss]) -> str:
    """Work lost by size of state and line."""
    rows = [
        "| state | uplink | losses | lost work p50 | p95 | p99 | told before | more than told | from the beginning |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for state, uplink in sorted({(one.state, one.uplink) for one in losses}):
        here = [one for one in losses if (one.state, one.uplink) == (state, uplink) and one.end != "left"]
        lost = [one.lost_s for one in here]
        over = sum(one.lost_s > one.bound_s for one in here)
        begun = sum(one.kind == "beginning" for one in here)
        marks = " | ".join(_span(quantile(lost, share)) for share in (0.5, 0.95, 0.99))
        bound = _span(here[0].bound_s) if here else ""
        rows.append(
            f"| {state / GIGABYTE:.2f} GB | {uplink // MEGABIT} Mbit/s | {len(here)} | {marks} | {bound} "
            f"| {over} | {begun} |"
        )
    return "\n".join(rows)


def _by_way(worlds: Sequence[tuple[str, Tally]]) -> str:
    """How chunks went on, by what happened to their hosts."""
    rows = [
        "| besides | worlds | hot | cold | begun again | not back | idle p50 | p95 | handed, none lost | exposed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for way in dict.fromkeys(way for way, _ in worlds):
        here = [tally for other, tally in worlds if other == way]
        losses = [loss for tally in here for loss in tally.losses]
        kinds = Counter(loss.kind for loss in losses)
        idle = [loss.idle_s for loss in losses if loss.kind in ("hot", "cold")]
        handed = sum(tally.handed for tally in here)
        exposed = sum(tally.exposures for tally in here)
        rows.append(
            f"| {way} | {len(here)} | {kinds['hot']} | {kinds['cold']} | {kinds['beginning']} | {kinds['failed']} "
            f"| {_span(quantile(idle, 0.5))} | {_span(quantile(idle, 0.95))} | {handed} | {exposed} |"
        )
    return "\n".join(rows)


def _detector(worlds: Sequence[tuple[str, Tally]]) -> str:
    """Hosts that were fenced and alive."""
    rows = ["| network and watchers | node-days | fenced wrongly | per node-day |", "| --- | --- | --- | --- |"]
    for way in dict.fromkeys(way for way, _ in worlds):
        here = [tally for other, tally in worlds if other == way]
        days = sum(tally.protected_s for tally in here) / DAY_S
        fenced = sum(tally.fenced for tally in here)
        rows.append(f"| {way} | {days:.2f} | {fenced} | {fenced / days if days else 0.0:.2f} |")
    return "\n".join(rows)


def _bytes(worlds: Sequence[tuple[str, Tally]]) -> str:
    moved = sum(tally.bytes for _, tally in worlds)
    minutes = sum(tally.protected_s for _, tally in worlds) / 60
    return f"{moved / max(1.0, minutes) / 1e6:.0f} MB of shards crossed the network per protected minute."


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
