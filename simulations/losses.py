"""What a world lost when its hosts went: work, time, bytes. Measures and judges nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from simulations.observer import Observer
from simulations.scenario import NS
from simulations.tasks import Task
from storage.interval import worst_case_loss

if TYPE_CHECKING:
    from simulations.simpeer import SimPeer
    from simulations.world import World

Kind = Literal["hot", "cold", "beginning", "failed"]
"""Where a chunk went on: from shards that were there, from shards that had to come, from its beginning because nothing
was durable, or although something was."""


class Loss(Struct, frozen=True):
    """One chunk that changed its host."""

    state: int
    """Bytes."""
    uplink: int
    """Bits per second of the host that it lost."""
    end: Literal["died", "left", "fenced"]
    """The host was gone; it handed over, or gave back; it lives, and its lease was taken from it."""
    kind: Kind
    lost_s: float
    """Work of the lost host that is done again."""
    bound_s: float
    """What the renter is told before the start (`storage.interval.worst_case_loss`)."""
    idle_s: float
    """From the end of the work there to its going on here."""
    is_counted: bool
    """False: nothing was durable, and it had run for less than the bound."""


class Tally(Struct):
    """One world."""

    losses: list[Loss]
    protected_s: float = 0.0
    bytes: int = 0
    """Of shards that crossed the network."""
    fenced: int = 0
    false_fences: int = 0
    """Of hosts that were up and connected all the while."""
    failures: list[str] = []
    """Why snapshots did not come back."""
    exposures: int = 0
    handed: int = 0
    events: int = 0


class Losses(Observer):
    """Counts, until `tally` is asked for."""

    def __init__(self, is_cut: Callable[[int], bool] = lambda peer: False) -> None:
        self.losses: list[Loss] = []
        self.false_fences = 0
        self._fenced: dict[bytes, int] = {}
        self._since: dict[int, int] = {}
        self._is_cut = is_cut

    def started(self, world: World) -> None:
        self._world = world

    def moved(self, peer: SimPeer, is_up: bool, now: int) -> None:
        self._since[peer.index] = now

    def resumed(self, task: Task, why: str, waited: int, brought: int, now: int) -> None:
        lease = task.run.lease
        assert lease is not None
        if lease[2] == 1:
            return
        name = f"{task.run.task.rpartition('-')[0]}-{lease[2] - 1}"
        before = self._world.driver.worker.protecting.tasks.get(name)
        if before is None or (before.ended >= 0 and before.work(now) >= before.result.time):
            return  # It never began, or was done and found wrong.
        state = self._world.driver.worker.state_of(task.run)
        uplink = self._world.places[before.peer.index].up
        kind: Kind = "beginning" if why == "none" else "failed" if why else "cold" if brought else "hot"
        ended = now if before.ended < 0 else min(before.ended, now)
        is_there = before.peer.is_up and before.peer.boots == before.boot
        wanted = task.run.spec.protection
        bound = worst_case_loss(state, uplink // 8, wanted.profile, wanted.every) / 1e6
        lost = before.lost(task.first, ended) / NS
        self.losses.append(
            Loss(
                state=state,
                uplink=uplink,
                end="left" if before.is_held else "fenced" if is_there else "died",
                kind=kind,
                lost_s=lost,
                bound_s=bound,
                idle_s=max(0.0, (task.began - ended) / NS),
                is_counted=kind != "beginning" or lost > bound,
            )
        )

    def second(self, now: int) -> None:
        ledger = next(peer for peer in self._world.peers if peer.role == "validator").machines.ledger
        for peer in self._world.peers:
            standing = ledger.standings.get(peer.id)
            fenced = standing.fenced if standing is not None else 0
            if fenced > self._fenced.get(peer.id, 0):
                is_well = peer.is_up and now - self._since.get(peer.index, 0) > 30 * NS and not self._is_cut(peer.index)
                self.false_fences += (fenced - self._fenced.get(peer.id, 0)) * is_well
                self._fenced[peer.id] = fenced

    def tally(self) -> Tally:
        """All of it."""
        world = self._world
        now = world.queue.now
        tasks = world.driver.worker.protecting.tasks.values()
        lived = sum((now if task.ended < 0 else task.ended) - task.began for task in tasks)
        return Tally(
            losses=self.losses,
            protected_s=lived / NS,
            bytes=world.recorder.counts.get("bytes/shards", 0),
            fenced=sum(self._fenced.values()),
            false_fences=self.false_fences,
            events=world.queue.executed,
        )
