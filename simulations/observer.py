"""What may watch a world: checkers, logs, accounts of attacks. An observer changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.effects import Effect
from simulations.scenario import Injection

if TYPE_CHECKING:
    from simulations.simpeer import SimPeer
    from simulations.tasks import Task
    from simulations.world import World


class Observer:
    """Hooks that do nothing; override what you need. Times are ns since the start."""

    def started(self, world: World) -> None:
        """The world is built; nothing has happened yet."""

    def handled(self, peer: SimPeer, cause: object, effects: list[Effect], now: int) -> None:
        """A peer's machines took a message or a completion (`cause`), or a tick (None), and asked for these effects."""

    def sent(self, source: int, target: int, message: object, now: int, arrives: int) -> None:
        """A direct message went out; `arrives` is -1 when it is lost with its connection."""

    def crashed(self, peer: SimPeer, error: Exception, now: int) -> None:
        """A machine broke its own contract. The peer is down from here on, as a node would be."""

    def resumed(self, task: Task, why: str, waited: int, brought: int, now: int) -> None:
        """A protected chunk begins to run. `why`: empty when it goes on from its snapshot, `none` when there was none,
        else why it could not; `waited`: ns since its inputs were there; `brought`: shards that had to come."""

    def injected(self, injection: Injection, now: int) -> None:
        """A fault begins."""

    def moved(self, peer: SimPeer, is_up: bool, now: int) -> None:
        """A peer was started or killed."""

    def second(self, now: int) -> None:
        """One more simulated second is over."""

    def finished(self, now: int) -> None:
        """The end of the run, after the settle phase."""
