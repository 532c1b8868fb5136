"""simulations/examining.py: what a steward finds, and when; what nobody needs any more is let go of."""

from __future__ import annotations

import pytest

from protocol import wire
from protocol.completions import Examined
from protocol.effects import Compute, Effect, Examine, LetGo, Resume, Run, Stop
from protocol.operations import Inherited
from protocol.prefix import root_of
from protocol.snapshots import Manifest, Pack
from protocol.units import SECOND, Digest, Micros
from simulations.observer import Observer
from simulations.scenario import NS
from simulations.simpeer import SimPeer
from simulations.units import execute, first_part
from simulations.worker import OPEN_RATE
from simulations.world import World
from tests.protocol.test_unit_jobs import unit_spec
from tests.simulations.protected import protected

SHARD = Digest(wire.digest(b"a shard"))
PACK = Pack(1_000, 1_000, "copy", 1, 3, (SHARD,))
OPENED_NS = 4 * NS
"""What opening the snapshot takes here."""
UNITS = 3


class Desk(Observer):
    """A steward, and a provider that holds a snapshot of three units in one shard."""

    def __init__(self, *, holds: bool = True, is_signed: bool = True, patience: int = 20) -> None:
        self.found: list[tuple[int, Examined]] = []
        self.world = World(protected(), 1, (), [self])
        self.world.gossip.start(len(self.world.peers), 0)
        self.world.lifecycle.schedule()
        self.world.queue.run(0)
        holder = next(peer for peer in self.world.peers if peer.role == "provider")
        self.steward = next(peer for peer in self.world.peers if peer.role == "steward")
        spec = unit_spec()
        part = first_part(execute(Run("task", spec, 0, (), (), holder.id)), UNITS)
        self.world.driver.worker.proving.parts[SHARD] = part
        words = (Inherited(1, UNITS, root_of(part.trace, UNITS) if is_signed else bytes(32), bytes(64)),)
        size = OPENED_NS // NS * OPEN_RATE
        shown = Manifest(bytes(16), bytes(32), 0, 1, 1, UNITS, 0, "application", 0, size, 10, (PACK,), inherited=words)
        if holds:
            self.world.library.hold(holder.index, SHARD, PACK.size)
        resume = Resume(shown, (((0, holder.id),),))
        work = Examine("look", (bytes(32), 0, 1), resume, b"", spec, Micros(patience * SECOND))
        self.begun = self.world.queue.now
        self.act(Compute(work))

    def handled(self, peer: SimPeer, cause: object, effects: list[Effect], now: int) -> None:
        if isinstance(cause, Examined):
            assert peer is self.steward
            self.found.append((now - self.begun, cause))

    def act(self, effect: Effect) -> None:
        self.world.driver.perform(self.steward, [effect])

    def wait(self, seconds: int) -> list[tuple[int, Examined]]:
        self.world.queue.run(self.world.queue.now + seconds * NS)
        return self.found

    @property
    def has(self) -> bool:
        return self.world.library.has(self.steward.index, SHARD)


def test_what_opens_stays_until_it_is_let_go() -> None:
    desk = Desk()
    ((after, found),) = desk.wait(60)
    assert (found.task, found.code, found.kept) == ("look", "", (SHARD,))
    assert OPENED_NS < after < OPENED_NS + NS and desk.has
    desk.act(Compute(LetGo((SHARD,))))
    assert not desk.has


def test_what_nobody_signed_for_goes_at_once() -> None:
    desk = Desk(is_signed=False)
    ((_, found),) = desk.wait(60)
    assert (found.code, found.kept, desk.has) == ("snapshot_bad", (), False)


def test_what_nobody_holds() -> None:
    ((after, found),) = Desk(holds=False).wait(60)
    assert (found.code, found.kept) == ("snapshot_missing", ()) and after < 30 * NS


@pytest.mark.parametrize("seconds", [0, 2])
def test_what_is_stopped_is_not_answered(seconds: int) -> None:
    """Whether it is still on its way, or is being opened."""
    desk = Desk()
    desk.wait(seconds)
    desk.act(Compute(Stop("look")))
    assert desk.wait(60) == [] and not desk.has


def test_a_steward_that_was_killed_meanwhile_hears_nothing() -> None:
    desk = Desk()
    desk.wait(2)
    desk.world.lifecycle.stop(desk.steward.index, desk.world.queue.now + NS, torn=False)
    assert desk.wait(60) == []
