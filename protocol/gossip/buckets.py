"""Token buckets: how much each author may say, however many peers pass it on.

Only what carried a good signature is charged, so nobody can spend another's tokens.
"""

from __future__ import annotations

from collections import OrderedDict

from protocol.units import SECOND, Micros


class Buckets:
    """One bucket per key, of `burst` tokens that come back at `rate` per second. At most `keys_max` are remembered."""

    __slots__ = ("_burst", "_full_after", "_keys_max", "_rate", "_spent")

    def __init__(self, rate: int, burst: int, keys_max: int) -> None:
        self._rate = rate
        self._burst = burst
        self._keys_max = keys_max
        self._full_after = burst * SECOND
        """A bucket is kept as the time at which it will be full again, times `rate`: one integer says everything."""
        self._spent: OrderedDict[object, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._spent)

    def has(self, key: object, now: Micros) -> bool:
        """Whether a token is there. Takes none."""
        full_at = self._spent.get(key)
        return full_at is None or full_at - now * self._rate <= self._full_after - SECOND

    def take(self, key: object, now: Micros) -> bool:
        """Take a token; False when there is none."""
        clock = now * self._rate
        full_at = max(self._spent.pop(key, clock), clock)
        is_there = full_at - clock <= self._full_after - SECOND
        self._spent[key] = full_at + SECOND if is_there else full_at
        while len(self._spent) > self._keys_max:
            self._spent.popitem(last=False)
        return is_there

    def wait(self, key: object, now: Micros) -> Micros:
        """µs until there is a token."""
        lacking = self._spent.get(key, 0) - now * self._rate - (self._full_after - SECOND)
        return Micros(max(0, -(-lacking // self._rate)))
