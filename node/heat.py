"""Reads the cards every few seconds and obeys the thermal policy: no new work when hot, everything off when too hot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from node.clock import Clock
from node.gpu import GpuReport, GpuSource
from node.thermal import Decision, Level, Reading, ThermalMachine
from node.triggers import HEAT_NOTICE, NOTICE, Owner, Trigger
from protocol.units import Micros

READ_EVERY_S: Final = 5.0
"""Seconds between readings: a card heats by a few degrees in that time."""


class Brake(Protocol):
    """What the policy acts on."""

    @property
    def is_held(self) -> bool:
        """Whether the node takes no work now, whoever said so."""
        ...

    def hold(self, finish_running: bool) -> None:
        """Take no new work; give back what runs unless it may finish."""
        ...

    def release(self) -> None:
        """Take work again."""
        ...


@dataclass(frozen=True, slots=True)
class Senses:
    """What else the policy looks at, and who saves and hands over what runs. Looked at every second."""

    owner: Owner
    minute: Callable[[], int]
    """Local minute of the day."""
    fire: Callable[[Trigger], None]


SENSE_EVERY_S: Final = 1.0
"""Seconds between readings where the owner is looked out for: a tenth of the notice."""


def reading(report: GpuReport, owner_needs_gpu: bool = False, minute: int = 0) -> Reading:
    """The hottest card and the power of all; whether the owner is there, and the minute of the day."""
    return Reading(
        temperature_c=max((card.temperature_c for card in report.gpus), default=0),
        power_w=sum(card.power_w for card in report.gpus),
        minute=minute,
        owner_needs_gpu=owner_needs_gpu,
    )


async def watch(
    source: GpuSource,
    machine: ThermalMachine,
    brake: Brake,
    clock: Clock,
    tell: Callable[[Decision], None],
    senses: Senses | None = None,
) -> None:
    """Until cancelled; returns at once on a host without cards where nothing else is sensed either.

    With `senses`, work leaves by a handover with notice instead of being given back."""
    if senses is None and (await trio.to_thread.run_sync(source.read)).status != "found":
        return
    level, is_ours = Level.RUN, False
    while True:
        now = await trio.to_thread.run_sync(_sense, source, senses)
        decision = machine.step(now, clock.now())
        if decision.level != level:
            level = decision.level
            tell(decision)
            if not decision.takes_work:
                is_ours = is_ours or not brake.is_held
                brake.hold(finish_running=senses is not None or level < Level.PAUSE)
                if senses is not None:
                    senses.fire(trigger(decision, now.owner_needs_gpu, senses.owner.reason, clock.now()))
            elif is_ours:
                brake.release()
                is_ours = False
        await trio.sleep(READ_EVERY_S if senses is None else SENSE_EVERY_S)


def trigger(decision: Decision, owner_is_here: bool, who: str, now: Micros) -> Trigger:
    """What a decision that takes no work means for what runs: saved while throttled, handed over beyond that."""
    if decision.level < Level.PAUSE:
        return Trigger("heat", "cut", decision.reason)
    if decision.level == Level.STOP:
        return Trigger("heat", "handover", decision.reason, HEAT_NOTICE)
    notice = NOTICE if decision.deadline is None else Micros(max(0, decision.deadline - now))
    if owner_is_here:
        return Trigger("owner", "handover", who or decision.reason, notice)
    return Trigger("hours", "handover", decision.reason, notice)


def _sense(source: GpuSource, senses: Senses | None) -> Reading:
    report = source.read()
    return reading(report) if senses is None else reading(report, senses.owner.is_here(), senses.minute())
