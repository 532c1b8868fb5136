"""Makes faults happen: each `Injection` at its time, and its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simulations import chance
from simulations.scenario import NS, Injection

if TYPE_CHECKING:
    from simulations.world import World


class Injector:
    """Applies a list of injections to a world."""

    def __init__(self, world: World, injections: Sequence[Injection]) -> None:
        self._world = world
        self._injections = injections
        self._random = chance.stream(world.seed, "injector")
        self.stopped_at = max((item.until for item in injections), default=0)
        """When the last fault is over, ns."""

    def schedule(self) -> None:
        """All of them, at their times."""
        for injection in self._injections:
            self._world.queue.at(injection.at, self._begin, injection)

    def _begin(self, item: Injection) -> None:
        world, now = self._world, self._world.queue.now
        for observer in world.observers:
            observer.injected(item, now)
        world.recorder.count(f"injected/{item.kind}")
        world.recorder.sample(f"fault/{item.kind}", (item.until - item.at) / NS, now)
        match item.kind:
            case "partition":
                world.network.cut(item.peers, item.until, item.one_way, now)
            case "clog":
                world.network.clog(item.peers, round(item.amount * NS), item.until, now)
            case "loss":
                world.network.worsen(item.amount, item.until, now)
            case "kill":
                for index in item.peers:
                    world.lifecycle.stop(index, item.until, torn=self._random.random() < item.amount)
            case "clock":
                for index in item.peers:
                    if item.amount:
                        world.peers[index].clock.jump(item.amount, now)
                    if item.drift_ppm:
                        world.peers[index].clock.drift(item.drift_ppm, now)
            case "disk":
                self._disk(item)
            case "corrupt":
                for index in item.peers:
                    world.peers[index].computer.corrupt = item.amount
                world.queue.at(item.until, self._heal, item)

    def _disk(self, item: Injection) -> None:
        for index in item.peers:
            peer = self._world.peers[index]
            match item.disk:
                case "torn":
                    self._world.lifecycle.stop(index, item.until, torn=True)
                case "lost":
                    peer.disk.lies = True
                    self._world.queue.at(item.until, self._heal, item)
                case "rot":
                    peer.disk.rot(self._random)
                case "full":
                    peer.disk.fill()
                    self._world.queue.at(item.until, self._heal, item)

    def _heal(self, item: Injection) -> None:
        """The end of a fault; of two of one kind on one peer the first end counts for both."""
        for index in item.peers:
            peer = self._world.peers[index]
            if item.kind == "corrupt":
                peer.computer.corrupt = self._world.groups[peer.role].corrupt
            elif item.disk == "lost":
                peer.disk.lies = False
            else:
                peer.disk.bytes_max = 0
