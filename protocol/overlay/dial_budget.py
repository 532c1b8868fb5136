"""How often a witness dials for others: little for one asker, a bit more for one address, and a limit over all.

A witness opens connections because somebody asked: without limits it would be a gun for hire, even though it only ever
dials the address that the question came from. Spec: specs/21-reach.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.errors import Refused
from protocol.overlay.endpoint import subnet
from protocol.units import SECOND, Micros, PeerId


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` dials at once, then one every `interval` microseconds."""

    burst: int
    interval: Micros


PER_ASKER: Final = Rate(12, Micros(20 * SECOND))
"""Dials for one peer: three questions of four addresses at once, then thrice what rounds every ten minutes need."""

PER_ADDRESS: Final = Rate(24, Micros(5 * SECOND))
"""Dials to one IP address: several nodes may live behind one router."""

PER_SUBNET: Final = Rate(64, Micros(SECOND))
"""Dials into one subnet, so that the owner of many addresses does not use up the room of all."""

IN_ALL: Final = Rate(128, Micros(SECOND // 4))
"""Dials in all: four a second cost a home line nothing."""

REMEMBERED_MAX: Final = 4_096
"""Budgets in use that are remembered. `IN_ALL` lets about 3000 be in use: nobody honest meets this limit."""

_Key = PeerId | str
_ALL: Final = ""


class DialBudget:
    """Counts dials by asker, address and subnet. Integer arithmetic: one number per budget, its theoretical arrival."""

    def __init__(self) -> None:
        self._free_at: dict[_Key, Micros] = {}
        """When a budget would be full again."""

    def __len__(self) -> int:
        return len(self._free_at)

    def spend(self, asker: PeerId, ip: str, dials: int, now: Micros) -> None:
        """Take `dials` out of every budget, or raise Refused (`dial_budget`) and take nothing."""
        wanted: tuple[tuple[_Key, Rate, str], ...] = (
            (asker, PER_ASKER, "for you"),
            (ip, PER_ADDRESS, "to your address"),
            (subnet(ip), PER_SUBNET, "to your subnet"),
            (_ALL, IN_ALL, "in all"),
        )
        for key, rate, what in wanted:
            free = max(self._free_at.get(key, now), now)
            late = free + dials * rate.interval - now - rate.burst * rate.interval
            if late > 0:
                raise Refused(
                    f"dials {what} are used up for {late / SECOND:.0f} s",
                    code="dial_budget",
                    fix="Ask another peer, or later.",
                    numbers={"wait_us": late},
                )
        self._forget_full(now)
        if len(self._free_at) + len(wanted) > REMEMBERED_MAX:
            raise Refused("too many peers ask for dials", code="dial_budget", fix="Ask another peer.")
        for key, rate, _ in wanted:
            self._free_at[key] = Micros(max(self._free_at.get(key, now), now) + dials * rate.interval)

    def _forget_full(self, now: Micros) -> None:
        """A budget that is full again needs no memory; looked at only when there are many."""
        if len(self._free_at) > REMEMBERED_MAX // 2:
            self._free_at = {key: at for key, at in self._free_at.items() if at > now}
