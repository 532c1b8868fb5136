"""Peers come and go: starts, kills, power cuts, churn. What a peer kept on its disk is what it starts again from."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec import DecodeError

from protocol.errors import LocalError, Refused, RemoteViolation, ShoalError
from simulations import chance, churn
from simulations.scenario import NS
from simulations.simpeer import SimPeer

if TYPE_CHECKING:
    from simulations.world import World

TORN_WITHIN_NS = NS
"""A power cut that waits for a write comes after this long without one, ns."""

RETRY_NS = 10 * NS
"""A node that ended because its disk was full is started again after so many ns."""


class Lifecycle:
    """Starts and stops peers, and reports it to gossip and observers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = chance.stream(world.seed, "lifecycle")
        self._down_until: dict[int, int] = {}
        """Peers held down by a fault; churn does not start them earlier."""
        self._absent: set[int] = set()
        """Peers between two sessions; the end of a fault does not start them earlier."""
        self._is_settling = False

    def schedule(self) -> None:
        """Start everybody who is up at the beginning, and draw all sessions."""
        world = self._world
        duration = world.scenario.simulation.duration
        for role, group in world.groups.items():
            peers = [peer for peer in world.peers if peer.role == role and peer.is_carrying]
            if group.churn is None:
                for peer in peers:
                    world.queue.at(0, self.start, peer)
                continue
            self._absent.update(peer.index for peer in peers)
            random_of = partial(chance.stream, world.seed, "churn", role)
            all_sessions = churn.schedule(group.churn, len(peers), random_of, duration)
            for peer, sessions in zip(peers, all_sessions, strict=True):
                for begin, end in sessions:
                    world.queue.at(begin, self._come, peer)
                    if end < duration:
                        world.queue.at(end, self._leave, peer)

    def settle(self) -> None:
        """Faults are over: whoever is down starts, and stays."""
        self._is_settling = True
        self._down_until.clear()
        self._absent.clear()
        for peer in self._world.peers:
            peer.disk.bytes_max, peer.disk.lies = 0, False
            if peer.is_up:
                peer.disk.crash(self._random, torn=False)  # A power cut that still waits for a write does not come.
            self.start(peer)

    def start(self, peer: SimPeer) -> None:
        """The program starts, unless it runs already, its host is away or held down, or the disk is unusable."""
        world, now = self._world, self._world.queue.now
        if peer.is_up or peer.index in self._absent or now < self._down_until.get(peer.index, 0):
            return
        try:
            peer.boot(world.genesis, now)
            first = peer.restored()
        except (LocalError, Refused, RemoteViolation, DecodeError):  # The last two: rot in a record.
            peer.kill()
            world.recorder.count("peers/unbootable")
            return
        if now:  # At time 0 all are connected at once.
            world.gossip.join(peer.index, now)
        world.recorder.count("peers/started")
        for observer in world.observers:
            observer.moved(peer, True, now)
        if all(world.driver.begin(peer, machine, act) for machine, act in first):
            world.market.open(peer)
            world.driver.wake(peer)

    def stop(self, index: int, until: int, torn: bool) -> None:
        """Kill -9, or a power cut in the middle of the next write; down until then."""
        world, peer = self._world, self._world.peers[index]
        self._down_until[index] = max(until, self._down_until.get(index, 0))
        world.queue.at(until, self.start, peer)
        if not peer.is_up:
            return
        if torn:
            peer.disk.tear_next(self._random)
            world.queue.at(world.queue.now + TORN_WITHIN_NS, self._cut, (peer, peer.boots, until))
        else:
            self.kill(peer, torn=False)

    def kill(self, peer: SimPeer, torn: bool) -> None:
        """The process is gone now."""
        if not peer.is_up:
            return
        world, now = self._world, self._world.queue.now
        world.driver.worker.killed(peer)
        peer.kill()
        peer.disk.crash(self._random, torn)
        world.gossip.leave(peer.index, now)
        world.network.drop(peer.index, now)
        world.recorder.count("peers/killed")
        for observer in world.observers:
            observer.moved(peer, False, now)

    def unwritten(self, peer: SimPeer, error: ShoalError) -> None:
        """A write failed, and the node ended: it comes back when its time has come, or soon when the disk is full."""
        self._world.recorder.count(f"disk/{error.code}")
        self.kill(peer, torn=error.code == "power_cut")
        self._world.queue.at(self._world.queue.now + RETRY_NS, self.start, peer)

    def _cut(self, cut: tuple[SimPeer, int, int]) -> None:
        peer, boot, until = cut
        if peer.is_up and peer.boots == boot and not self._is_settling:
            self.kill(peer, torn=True)
            self._world.queue.at(max(until, self._world.queue.now), self.start, peer)

    def _come(self, peer: SimPeer) -> None:
        """A session begins."""
        self._absent.discard(peer.index)
        self.start(peer)

    def _leave(self, peer: SimPeer) -> None:
        """A session is over."""
        self._absent.add(peer.index)
        self.kill(peer, torn=False)
