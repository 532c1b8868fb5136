"""What threatens a host, and what to do at once: save what runs, or hand it over.

Each source is looked at again and again and tells of a change once. Where a source is missing (no battery, no card, no
command) it never tells anything. Heat, the owner at the machine, and the owner's hours come through `node.heat`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import psutil
import trio

from node.gpu_processes import Strangers, XidEvents
from node.thermal import minutes_left
from protocol.units import MINUTE, SECOND, Micros

Kind = Literal["owner", "stop", "heat", "hours", "battery", "xid", "suspicion"]
Act = Literal["cut", "handover"]

NOTICE: Final = Micros(10 * SECOND)
"""Time for handing over where nothing else limits it, µs (features N7)."""

HEAT_NOTICE: Final = Micros(5 * SECOND)
"""Time for handing over a card that is too hot, µs: from the cut on its job stands still and the card cools."""

HOURS_NOTICE: Final = Micros(1 * MINUTE)
"""Time before the end of the owner's hours at which work begins to leave, µs."""

BATTERY_LOW_PERCENT: Final = 30
"""Charge at which work leaves a machine without mains: half an hour of a laptop's load, before it sleeps by itself."""

PHI_SUSPECT: Final = 3.0
"""Suspicion (specs/09-liveness.md) from which the own connection is taken for failing: others begin to doubt us."""

PHI_CALM: Final = 1.0
"""Suspicion below which it is over."""

LOOK_EVERY_S: Final = 1.0
"""Seconds between two looks at everything but the driver's reports, which wait for themselves."""

COMMAND_TIMEOUT_S: Final = 5.0
"""Seconds that the owner's command may take; one that hangs says nothing."""

XID_JOB: Final = frozenset((13, 31, 43, 45, 68, 69))
"""Xid errors that a job's own mistakes cause (NVIDIA's catalogue of Xid errors): the card is well."""

XID_LOST: Final = frozenset((48, 64, 74, 79, 95, 119, 120, 140))
"""Xid errors after which the card must be reset or has fallen off the bus: nothing new is computed on it."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """Something happened that a running chunk should not wait for."""

    kind: Kind
    act: Act
    detail: str
    notice: Micros = NOTICE
    """For a handover: how long it may take, µs."""


class Source(Protocol):
    """One thing that is watched. `look` may block: it runs in a thread."""

    def look(self) -> Trigger | None: ...


class Owner:
    """The owner is at the machine: somebody else's process on a card, or the owner's own command says so."""

    def __init__(self, strangers: Strangers, command: Sequence[str] = ()) -> None:
        """`command`: exit status 0 means that the owner needs the machine now; on a host without cards the only way."""
        self._strangers = strangers
        self._command = tuple(command)
        self.reason = ""

    def is_here(self) -> bool:
        """Whether the machine is wanted; `reason` says by whom."""
        stranger = self._strangers.at_work()
        if stranger is not None:
            self.reason = f"process {stranger.pid} uses a card ({stranger.kind})"
            return True
        if self._command and _succeeds(self._command):
            self.reason = f"{self._command[0]} says so"
            return True
        return False


def _succeeds(command: tuple[str, ...]) -> bool:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@dataclass(frozen=True, slots=True)
class Charge:
    """What the battery says."""

    percent: float
    is_plugged: bool


def charge() -> Charge | None:
    """The battery of this machine; None where there is none, or the system cannot say."""
    ask = getattr(psutil, "sensors_battery", None)
    found = ask() if ask is not None else None
    if found is None or found.power_plugged is None:
        return None
    return Charge(float(found.percent), bool(found.power_plugged))


class Battery:
    """Mains went away: save at once; the battery runs low: leave."""

    def __init__(self, read: Callable[[], Charge | None] = charge) -> None:
        self._read = read
        self._was_plugged = True
        self._is_low = False

    def look(self) -> Trigger | None:
        now = self._read()
        if now is None:
            return None
        went, self._was_plugged = self._was_plugged and not now.is_plugged, now.is_plugged
        is_low = not now.is_plugged and now.percent <= BATTERY_LOW_PERCENT
        fell, self._is_low = is_low and not self._is_low, is_low
        if fell:
            return Trigger("battery", "handover", f"the battery is at {now.percent:.0f} %", HOURS_NOTICE)
        return Trigger("battery", "cut", "mains power is gone") if went else None


class Xid:
    """The driver reported an error of a card."""

    def __init__(self, events: XidEvents, wait_ms: int = 1_000) -> None:
        self._events = events
        self._wait_ms = wait_ms

    def look(self) -> Trigger | None:
        number = self._events.next(self._wait_ms)
        if number == 0 or number in XID_JOB:
            return None
        if number in XID_LOST:
            return Trigger("xid", "handover", f"Xid {number}: the card needs a reset")
        return Trigger("xid", "cut", f"Xid {number}")


class Hours:
    """The owner's hours end soon."""

    def __init__(self, hours: tuple[tuple[int, int], ...], minute: Callable[[], int]) -> None:
        """`minute`: local minute of the day."""
        self._hours = hours
        self._minute = minute
        self._is_told = False

    def look(self) -> Trigger | None:
        left = minutes_left(self._hours, self._minute())
        is_near = left is not None and 0 < left * MINUTE <= HOURS_NOTICE
        told, self._is_told = self._is_told, is_near
        if not is_near or told:
            return None
        return Trigger("hours", "handover", "the owner's hours end within a minute", HOURS_NOTICE)


class Suspicion:
    """Others hear less and less of us, as far as we can tell from what we hear of them."""

    def __init__(self, phi: Callable[[], float]) -> None:
        """`phi`: the suspicion under which this host's own link to its watchers stands."""
        self._phi = phi
        self._is_told = False

    def look(self) -> Trigger | None:
        phi = self._phi()
        if phi < PHI_CALM:
            self._is_told = False
        if phi < PHI_SUSPECT or self._is_told:
            return None
        self._is_told = True
        return Trigger("suspicion", "cut", f"phi is {phi:.1f}")


async def watch(source: Source, fire: Callable[[Trigger], None], every_s: float = LOOK_EVERY_S) -> None:
    """Until cancelled: look, and fire in the caller's task. One task per source, so that a slow one delays no other."""
    while True:
        found = await trio.to_thread.run_sync(source.look, abandon_on_cancel=True)
        if found is not None:
            fire(found)
        await trio.sleep(every_s)
