"""Reads the cards every few seconds and obeys the thermal policy: no new work when hot, everything off when too hot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import trio

from node.clock import Clock
from node.gpu import GpuReport, GpuSource
from node.thermal import Decision, Level, Reading, ThermalMachine

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


def reading(report: GpuReport) -> Reading:
    """The hottest card and the power of all."""
    return Reading(
        temperature_c=max((card.temperature_c for card in report.gpus), default=0),
        power_w=sum(card.power_w for card in report.gpus),
    )


async def watch(
    source: GpuSource, machine: ThermalMachine, brake: Brake, clock: Clock, tell: Callable[[Decision], None]
) -> None:
    """Until cancelled; returns at once on a host without cards, where there is nothing to read."""
    if (await trio.to_thread.run_sync(source.read)).status != "found":
        return
    level, is_ours = Level.RUN, False
    while True:
        decision = machine.step(reading(await trio.to_thread.run_sync(source.read)), clock.now())
        if decision.level != level:
            level = decision.level
            tell(decision)
            if not decision.takes_work:
                is_ours = is_ours or not brake.is_held
                brake.hold(finish_running=level < Level.PAUSE)
            elif is_ours:
                brake.release()
                is_ours = False
        await trio.sleep(READ_EVERY_S)
