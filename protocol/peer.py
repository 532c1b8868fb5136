"""One peer = its machines, wired once: the single object that both drivers, the live node and the simulator, hold.

It routes each message to the machines that take it and keeps one wake-up time per machine. It acts on nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.completions import Completion
from protocol.effects import Effect, Fail, Machine, Wake
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.messages import Message
from protocol.units import Micros, PeerId


class Peer:
    """Routes messages and time to machines; effects come back in order, wake-ups stay here."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self._machines = tuple(machines)
        self._routes: dict[type, list[int]] = {}
        for index, machine in enumerate(self._machines):
            for kind in machine.accepts:
                self._routes.setdefault(kind, []).append(index)
        self._wakes: dict[int, Micros] = dict.fromkeys(range(len(self._machines)), Micros(0))

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        """Every machine that takes this message, in wiring order. A refusal by one does not keep it from the others."""
        effects: list[Effect] = []
        for index in self._routes.get(type(message), ()):
            try:
                effects += self.absorb(index, self._machines[index].receive(sender, message, now))
            except (RemoteViolation, Refused, Unavailable) as error:
                effects.append(Fail(error))
        return effects

    def tick(self, now: Micros) -> list[Effect]:
        """Let every machine act whose time has come."""
        effects: list[Effect] = []
        for index in [index for index, at in self._wakes.items() if at <= now]:
            del self._wakes[index]
            effects += self.absorb(index, self._machines[index].tick(now))
        return effects

    def index(self, machine: Machine) -> int:
        """The place of a machine, for `absorb`."""
        return next(index for index, known in enumerate(self._machines) if known is machine)

    def absorb(self, index: int, effects: list[Effect]) -> list[Effect]:
        """Keep the wake-ups of a machine, hand on the rest."""
        rest: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Wake):
                whose = index if effect.machine is None else self.index(effect.machine)
                known = self._wakes.get(whose)
                self._wakes[whose] = effect.at if known is None else min(known, effect.at)
            else:
                rest.append(effect)
        return rest

    @property
    def next_wake(self) -> Micros | None:
        """The least time at which `tick` wants to be called."""
        return min(self._wakes.values(), default=None)
