"""Everything that looks after this host while it works, started in one place: heat, owner, hours, battery, errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import trio

from node import heat, triggers
from node.clock import Clock
from node.gpu import GpuSource
from node.gpu_processes import Strangers, XidEvents
from node.thermal import DAY_MINUTES, Decision, Policy, ThermalMachine
from node.triggers import Battery, Hours, Owner, Source, Suspicion, Trigger, Xid
from protocol.errors import Refused


@dataclass(frozen=True, slots=True)
class Watched:
    """What is looked at, and by which rules."""

    cards: GpuSource
    policy: Policy = Policy()
    owner_command: Sequence[str] = ()
    """Exit status 0: the owner needs the machine now. Empty: nobody is asked."""
    containers: Callable[[], Iterable[str]] = tuple
    """Ids of this node's own containers: what runs in them is not the owner's."""
    phi: Callable[[], float] | None = None
    """Suspicion of the own link, where it is measured."""


def hours_of(text: str) -> tuple[tuple[int, int], ...]:
    """Spans of minutes of the day, of a text like the setting `hours`; `Refused` for times that no day has.

    >>> hours_of("22:00-06:00,12:00-13:00")
    ((1320, 360), (720, 780))
    """
    spans = []
    for span in filter(None, text.split(",")):
        start, end = (_minute(time) for time in span.split("-"))
        spans.append((start, end or DAY_MINUTES))
    Policy(hours=tuple(spans))  # Says what is wrong with them.
    return tuple(spans)


def _minute(time: str) -> int:
    hour, minute = (int(part) for part in time.split(":"))
    if minute >= 60:
        raise Refused(f"{time} is no time of day", code="bad_policy", fix="Write hours like 22:00-06:00.")
    return hour * 60 + minute


def minute_of_day(clock: Clock) -> int:
    """Local minute of the day."""
    local = datetime.fromtimestamp(clock.now() / 1e6, UTC).astimezone()
    return local.hour * 60 + local.minute


async def watch_host(
    watched: Watched, brake: heat.Brake, clock: Clock, tell: Callable[[Decision], None], fire: Callable[[Trigger], None]
) -> None:
    """Until cancelled. `fire` gets what running work must not wait for (`Handing.fire`)."""

    def minute() -> int:
        return minute_of_day(clock)

    owner = Owner(Strangers(containers=watched.containers), watched.owner_command)
    senses = heat.Senses(owner, minute, fire)
    events = XidEvents()
    sources: list[Source] = [Battery(), Hours(watched.policy.hours, minute)]
    if events.is_open:
        sources.append(Xid(events))
    if watched.phi is not None:
        sources.append(Suspicion(watched.phi))
    try:
        async with trio.open_nursery() as nursery:
            for source in sources:
                nursery.start_soon(triggers.watch, source, fire)
            machine = ThermalMachine(watched.policy)
            nursery.start_soon(heat.watch, watched.cards, machine, brake, clock, tell, senses)
    finally:
        events.close()
