"""How far a job is, from what its loops say of their length."""

from __future__ import annotations

import operator
import types

from . import frames, iterators, loaders


def progress(stack: list[types.FrameType]) -> int:
    """Millionths of all rounds that are done, as far as the loops know their length, the outermost first."""
    done, share = 0.0, 1.0
    for frame in stack:
        for site in frames.loops_of(frame):
            left, total = length_of(site.iterator)
            if not total:
                return int(done * 1e6)
            done += share * max(0, total - left - 1) / total
            share /= total
    return int(done * 1e6)


def length_of(iterator: object) -> tuple[int, int]:
    """(items left, items in all) of an iterator; (0, 0) where it does not say."""
    if isinstance(iterator, loaders.Rounds):
        try:
            return len(iterator) - iterator.count, len(iterator)
        except TypeError:
            return 0, 0
    kind = type(iterator)
    if kind in iterators.COMPOUND_ITERATORS:
        parts = iterators.take_apart(iterator)[1]
        assert isinstance(parts, tuple)
        return length_of(parts[1] if kind in (map, filter) else parts[0])
    if kind in iterators.SEQUENCE_ITERATORS:
        left = operator.length_hint(iterator)
        told = iterators.take_apart(iterator)
        parts = told[1]
        assert isinstance(parts, tuple)
        whole = parts[0]
        if isinstance(whole, range) and (len(told) < 3 or not told[2]):
            start = whole.start // whole.step if whole.start * whole.step > 0 else 0
            return left, left + start
        return left, len(whole)
    return 0, 0
