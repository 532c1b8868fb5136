"""Delta debugging: the fewest faults that still break the same rule (Zeller and Hildebrandt 2002, ddmin)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

from protocol.errors import Refused

T = TypeVar("T")


def minimise(fails: Callable[[Sequence[T]], bool], items: Sequence[T]) -> list[T]:
    """A smallest part of `items`, in their order, for which `fails` still holds: without any one of them it does not.

    `fails` must be deterministic; it is asked about each part once. Raises `Refused` when all items do not fail.
    Asks about O(n²) parts at worst, O(log n) when one item alone is to blame."""
    asked: dict[tuple[int, ...], bool] = {}

    def ask(part: tuple[int, ...]) -> bool:
        if part not in asked:
            asked[part] = fails([items[place] for place in part])
        return asked[part]

    left = tuple(range(len(items)))
    if not ask(left):
        raise Refused(
            f"the run with all {len(items)} faults does not fail",
            code="does_not_fail",
            fix="Check that the commit is the one of the report: another version may have mended it.",
            numbers={"faults": len(items)},
        )
    if ask(()):
        return []
    parts = 2
    while len(left) >= 2:
        smaller = _smaller(ask, left, parts)
        if smaller is not None:
            left, parts = smaller
        elif parts < len(left):
            parts = min(len(left), 2 * parts)
        else:
            break
    return [items[place] for place in left]


def _smaller(
    ask: Callable[[tuple[int, ...]], bool], left: tuple[int, ...], parts: int
) -> tuple[tuple[int, ...], int] | None:
    """A failing part of `left` cut in `parts`, or a failing rest without one, and how fine to cut next."""
    bounds = [len(left) * place // parts for place in range(parts + 1)]
    cuts = [left[start:end] for start, end in pairwise(bounds)]
    for cut in cuts:
        if len(cut) < len(left) and ask(cut):
            return cut, 2
    if parts > 2:
        for place in range(parts):
            rest = left[: bounds[place]] + left[bounds[place + 1] :]
            if ask(rest):
                return rest, max(2, parts - 1)
    return None


def minimise_count(fails: Callable[[int], bool], count: int) -> int:
    """The least count from 0 to `count` that fails, where more of the same keeps failing: jobs, adversaries.

    A smallest one by bisection; when failing is not monotonous it is still one that fails."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if fails(middle):
            high = middle
        else:
            low = middle + 1
    return high
