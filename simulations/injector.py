"""Makes faults happen: each `Injection` at its time, and its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from protocol.units import Micros
from simulations import chance
from simulations.scenario import NS, Injection

if TYPE_CHECKING:
    from simulations.simpeer import SimPeer
    from simulations.world import World


class Injector:
    """Applies a list of injections to a world."""

    def __init__(self, world: World, injections: Sequence[Injection]) -> None:
        self._world = world
        self._injections = injections
        self._random = chance.stream(world.seed, "injector")
        self._ambushes: list[Injection] = []
        """Those that wait for somebody to restore."""
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
            case "starve":
                for index in item.peers:
                    world.peers[index].starved_until = max(item.until, world.peers[index].starved_until)
            case "reclaim":
                for index in item.peers:
                    self.reclaim(index, item)
            case "ambush":
                self._ambushes.append(item)
            case "disk":
                self._disk(item)
            case "corrupt":
                for index in item.peers:
                    world.peers[index].computer.corrupt = item.amount
                world.queue.at(item.until, self._heal, item)

    def reclaim(self, index: int, item: Injection) -> None:
        """The owner wants the machine back: notice first, as `node.reclaim` gives it; then the host goes."""
        world, peer = self._world, self._world.peers[index]
        if not peer.is_up:
            return
        notice = round(item.amount * NS)
        provider, reclaim = peer.machines.provider, peer.machines.reclaim
        leases = list(provider.leases.values())
        provider.is_draining = True
        world.driver.command(peer, reclaim, lambda now: reclaim.begin(leases, Micros(notice // 1_000), now))
        world.queue.at(world.queue.now + notice, self._go, (index, peer.boots, item.until))

    def _go(self, going: tuple[int, int, int]) -> None:
        index, boot, until = going
        peer = self._world.peers[index]
        if peer.is_up and peer.boots == boot:
            self._world.lifecycle.stop(index, max(until, self._world.queue.now), torn=False)

    def restoring(self, peer: SimPeer) -> None:
        """Somebody begins to bring a snapshot back: the oldest ambush is for it."""
        if self._ambushes:
            item = self._ambushes.pop(0)
            self._world.queue.at(
                self._world.queue.now + round(item.amount * NS), self._struck, (peer.index, peer.boots, item)
            )

    def _struck(self, struck: tuple[int, int, Injection]) -> None:
        index, boot, item = struck
        peer, now = self._world.peers[index], self._world.queue.now
        if peer.is_up and peer.boots == boot and now < self._world.scenario.simulation.duration:
            self._world.recorder.count("ambush/struck")
            self._world.lifecycle.stop(index, now + item.until - item.at, torn=False)

    def _disk(self, item: Injection) -> None:
        for index in item.peers:
            peer = self._world.peers[index]
            match item.disk:
                case "torn":
                    self._world.lifecycle.stop(index, item.until, torn=True)
                case "lost":
                    peer.disk.lies = True
                    self._world.queue.at(item.until, self._heal, item)
                case "dead":
                    self._world.lifecycle.stop(index, item.until, torn=False)
                    peer.disk.wipe()
                    self._world.library.wipe(index)
                    self._world.recorder.count("disk/dead")
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
