"""Gets running work off this machine: because its owner says so, because something threatens it, or because it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Final, Protocol

import trio

from node.events import EventLog
from node.triggers import Trigger
from protocol.effects import Effect, Machine
from protocol.identity import peer_text
from protocol.provider_lease import Lease
from protocol.reclaim import Leaving, Reclaim, fields
from protocol.units import Micros

GRACE_S: Final = 3.0
"""Seconds after the notice in which the ledger may still say what it made of the last handover or surrender."""

Row = dict[str, str | int]
log = logging.getLogger("shoal.node")


class Commander(Protocol):
    """The driver: acts of machines on their owner's word."""

    def command(self, machine: Machine, act: Callable[[Micros], list[Effect]]) -> None: ...


class Handing:
    """Saves and hands over what runs here. One per node."""

    def __init__(
        self,
        driver: Commander,
        drain: Callable[[bool], None],
        leases: Callable[[], Iterable[Lease]],
        events: EventLog,
        reclaim: Reclaim | None = None,
        save: Callable[[], None] | None = None,
    ) -> None:
        """`drain`: no new work, True = what runs may go on. `save`: an urgent snapshot of everything that runs.

        Without `reclaim` nothing can be handed over: what runs is given back."""
        self._driver = driver
        self._drain = drain
        self._leases = leases
        self._events = events
        self._reclaim = reclaim
        self._save = save

    def fire(self, trigger: Trigger) -> None:
        """A threat: save at once, or begin to leave."""
        log.warning("%s: %s, %s", trigger.kind, trigger.detail, "leaving" if trigger.act == "handover" else "saving")
        if trigger.act == "handover":
            self.begin(trigger.notice)
        elif self._save is not None:
            self._save()

    def begin(self, notice: Micros, may_finish: bool = True) -> None:
        """Take nothing new; hand over what runs within `notice`. `may_finish`: of what takes no snapshots, see
        `Reclaim.begin`."""
        reclaim = self._reclaim
        self._drain(reclaim is not None)
        if reclaim is not None:
            leases = list(self._leases())
            self._driver.command(reclaim, lambda now: reclaim.begin(leases, notice, now, may_finish))

    async def out(self, notice: Micros, may_finish: bool = True) -> list[Row]:
        """`begin`, and wait until everything is out or time is over; what became of each lease."""
        start = self._events.next_sequence  # What follows from here on may be the last word about a lease.
        before = list(self._leases())
        self.begin(notice, may_finish)
        reclaim = self._reclaim
        if reclaim is None:
            return [row(Leaving(lease, Micros(0), "given_back", "this node takes no snapshots")) for lease in before]
        with trio.move_on_after(notice / 1e6 + GRACE_S):
            async with aclosing(self._events.follow(start)) as followed:
                while not reclaim.is_over:
                    await anext(followed)
        return [row(item) for item in reclaim.leaving.values()]


def row(item: Leaving) -> Row:
    """A lease that leaves, for the owner."""
    shown = fields(item)
    return {**shown, "job": f"job_{shown['job']}", "steward": peer_text(item.lease.steward)}
