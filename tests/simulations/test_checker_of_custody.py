"""The custody checker: silent in a right world, loud when one thing is made wrong."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from protocol.effects import Compute, Forget
from protocol.units import Digest
from simulations.churn import DAILY_MAX, sessions
from simulations.scenario import NS, Churn
from simulations.tasks import Task
from simulations.violation import Violation
from tests.simulations.protected import Staged, protected


@pytest.fixture(scope="module")
def running() -> Staged:
    """A chunk in the middle of its work, with a snapshot that its steward knows."""
    given = protected(seconds=60, settle=0)
    stage = Staged(given)
    stage.run()
    return stage


def held(stage: Staged) -> tuple[int, Digest]:
    """A holder of the newest snapshot, and its shard."""
    (known,) = stage.custody._newest.values()
    peer, shard = next(iter(known.until))
    return stage.custody._index[peer], Digest(shard)


def task_of(stage: Staged) -> Task:
    """The execution."""
    return stage.tasks[1]


def test_a_right_world_leaves_nothing_to_say(running: Staged) -> None:
    found = running.custody.findings
    assert not found.exposures and not found.failures
    assert running.custody._newest and found.snapshots_max <= 3


def test_a_holder_that_breaks_its_promise(running: Staged) -> None:
    index, shard = held(running)
    peer = running.world.peers[index]
    with pytest.raises(Violation, match="before its promise ends"):
        running.custody.handled(peer, None, [Compute(Forget(shard))], running.world.queue.now)


def test_what_nobody_promised_may_be_forgotten(running: Staged) -> None:
    index, _ = held(running)
    peer, now = running.world.peers[index], running.world.queue.now
    running.custody.handled(peer, None, [Compute(Forget(Digest(bytes(32))))], now)


def test_shards_that_vanish_while_their_holders_are_up(running: Staged) -> None:
    (place,) = running.custody._newest
    (known,) = running.custody._newest.values()
    library, now = running.world.library, running.world.queue.now
    taken = [(peer.index, Digest(one)) for peer in running.world.peers for one in known.manifest.packs[0].shards[:9]]
    taken = [(peer, one) for peer, one in taken if library.has(peer, one)]
    for peer, one in taken:
        library.drop(peer, one)
    with pytest.raises(Violation, match="8 are needed"):
        running.custody._look(place, now)
    for peer, one in taken:
        library.copy(peer, one)
    running.custody._look(place, now)


def test_going_on_from_another_step(running: Staged) -> None:
    task = task_of(running)
    (known,) = running.custody._newest.values()
    key = (known.manifest.job.hex(), known.manifest.chunk, 1)
    running.custody._handed[key] = known.manifest.step
    lease = (known.manifest.escrow, known.manifest.chunk, 2)
    run = task.run
    again = Task(task.peer, task.boot, type(run)(run.task, run.spec, run.chunk, (), (), run.renter, lease), task.result,
                 task.steps, known.manifest.step - 1, 0)  # fmt: skip
    with pytest.raises(Violation, match="handed over at step"):
        running.custody.resumed(again, "", 0, 0, running.world.queue.now)
    again.first += 1
    running.custody.resumed(again, "", 0, 0, running.world.queue.now)
    assert running.custody.findings.handed == 1


def test_too_many_snapshots_on_disks(running: Staged) -> None:
    world, task = running.world, task_of(running)
    for number in range(100, 110):
        for at in range(8):
            shard = Digest(bytes([number, at]) * 16)
            world.driver.worker.protecting.shards[shard] = (task.run.task, number, 0)
            world.library.hold(3, shard, 1)
    with pytest.raises(Violation, match="snapshots of"):
        running.custody._count(world.queue.now)


# ── the hours of a day ───────────────────────────────────────────────────────────────────────────────────────────────
def test_hours_move_the_ends_of_sessions_and_not_their_number() -> None:
    plain = Churn(model="exponential", scale=3_600 * NS, down=600 * NS)
    daily = msgspec.structs.replace(plain, daily=0.9)
    days = 40 * 86_400 * NS
    even, uneven = (sessions(one, Random(7), days) for one in (plain, daily))
    assert len(uneven) == pytest.approx(len(even), rel=0.1)

    def unevenness(found: list[tuple[int, int]]) -> float:
        hours = [0] * 24
        for _, end in found:
            hours[end // (3_600 * NS) % 24] += 1
        return max(hours) / max(1, min(hours))

    assert unevenness(uneven) > 3 * unevenness(even)
    assert all(start < end for start, end in uneven) and daily.daily < DAILY_MAX
