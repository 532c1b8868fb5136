"""How often somebody may ask: one token bucket per caller."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 60
BUCKETS_MAX: Final = 10_000
"""Callers remembered at once; the one that asked longest ago is forgotten first, which can only be in its favour."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a caller has left."""

    is_allowed: bool
    limit: int
    remaining: int
    reset_s: int
    """Seconds until one more request is allowed (refused) or the bucket is full (allowed)."""

    def headers(self) -> dict[str, str]:
        """RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers), Retry-After when refused."""
        fields = {
            "RateLimit-Policy": f'"minute";q={self.limit};w={WINDOW_S}',
            "RateLimit": f'"minute";r={self.remaining};t={self.reset_s}',
        }
        if not self.is_allowed:
            fields["Retry-After"] = str(self.reset_s)
        return fields


class Limiter:
    """`per_minute` requests for every key, refilled evenly. Time comes in as seconds of any steady clock."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._rate = per_minute / WINDOW_S
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> Allowance:
        """Take one request from the key's bucket."""
        level = self._level(key, now)
        if level < 1:
            self._put(key, level, now)
            return Allowance(False, self._limit, 0, max(1, math.ceil((1 - level) / self._rate)))
        self._put(key, level - 1, now)
        return Allowance(True, self._limit, int(level - 1), math.ceil((self._limit - level + 1) / self._rate))

    def peek(self, key: str, now: float) -> Allowance:
        """Whether `take` would be allowed; takes nothing."""
        level = self._level(key, now)
        wait = 0 if level >= 1 else max(1, math.ceil((1 - level) / self._rate))
        return Allowance(level >= 1, self._limit, int(level), wait)

    def _level(self, key: str, now: float) -> float:
        level, seen = self._buckets.get(key, (float(self._limit), now))
        return min(float(self._limit), level + max(0.0, now - seen) * self._rate)

    def _put(self, key: str, level: float, now: float) -> None:
        self._buckets[key] = (level, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
