"""Machines die, sleep, lie behind bad lines and disagree about the time: the job goes on from its last durable step.

Every peer here runs all the machines of a node (tests/failures/village.py); what is faulty is the world.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.effects import Effect
from protocol.errors import Refused
from protocol.job_record import ChunkRecord, JobRecord
from protocol.units import HOUR, MINUTE, SECOND, Micros
from tests.failures.village import Village
from tests.failures.villager import Villager

EVERY = 5
"""Seconds between snapshots, so steps that may be lost."""


def under_way(village: Village, step: int = 10, seconds: int = 60) -> JobRecord:
    """A job that has a durable snapshot of at least this step."""
    record = village.submit(seconds, every=EVERY)
    assert village.run(90, lambda: village.record(record.job).chunks[0].step >= step)
    return record


def step_of(village: Village, record: JobRecord) -> int:
    """The newest step that the steward knows to be durable."""
    return village.record(record.job).chunks[0].step


def epoch_of(village: Village, record: JobRecord) -> int:
    return village.record(record.job).chunks[0].epoch


def goes_on(village: Village, record: JobRecord, dead: Villager, seconds: float = 60) -> Villager:
    """Wait until another peer executes the chunk."""

    def runs() -> bool:
        one = village.worker(record)
        return one is not dead and bool(one.running())

    assert village.run(seconds, runs), "nobody went on"
    return village.worker(record)


def watchers(village: Village, record: JobRecord) -> list[Villager]:
    lease = next(iter(village.worker(record).machines.provider.leases.values()))
    return [village[village.name(peer)] for peer in lease.assign.watchers]


# ── deaths ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_killed_worker_costs_seconds_and_at_most_one_interval() -> None:
    village = Village()
    record = under_way(village)
    worker, standby = village.worker(record), village.standby(record)
    at = worker.running()[0].step(village.now)
    village.kill(worker.name)
    killed = village.now
    assert goes_on(village, record, worker) is standby
    assert village.now - killed < 12 * SECOND
    assert 0 <= at - standby.begun[-1][1] <= EVERY + 1
    village.until_done(record)


def test_double_fault_the_standby_dies_in_restore() -> None:
    village = Village()
    record = under_way(village)
    worker, standby = village.worker(record), village.standby(record)
    assert standby is not None
    durable = step_of(village, record)

    def die(_step: int) -> bool:
        village.kill(standby.name)
        return False

    standby.restores = die
    village.kill(worker.name)
    third = goes_on(village, record, standby, 90)
    assert third not in (worker, standby)
    assert third.begun[-1][1] >= durable, "what was acknowledged is not lost with two machines"
    village.until_done(record)


@pytest.mark.parametrize("stage", ["suspected", "fenced", "granted", "restoring", "restored", "first snapshot"])
@pytest.mark.parametrize("victim", ["successor", "steward"])
def test_a_fault_in_every_stage_of_recovery(victim: str, stage: str) -> None:
    village = Village(16)
    record = under_way(village)
    worker, standby = village.worker(record), village.standby(record)
    assert standby is not None
    durable = step_of(village, record)
    since = village.now
    village.kill(worker.name)

    def chunk() -> ChunkRecord:
        """Read anew: the steward may be another process."""
        return village.record(record.job).chunks[0]

    reached: dict[str, Callable[[], bool]] = {
        "suspected": lambda: village.now > since + 3 * SECOND,
        "fenced": lambda: chunk().provider != worker.id,
        "granted": lambda: bool(standby.machines.provider.leases),
        "restoring": lambda: any(lease.phase == "running" for lease in standby.machines.provider.leases.values()),
        "restored": lambda: bool(standby.running()),
        "first snapshot": lambda: bool(standby.sealed),
    }
    assert village.run(40, reached[stage])
    if victim == "steward":
        village.kill("steward")
        village.run(3)
        village.start("steward")
    else:
        village.kill(standby.name)
    last = goes_on(village, record, standby if victim == "successor" else worker, 90)
    assert last.begun[-1][1] >= durable
    assert village.run(30, lambda: chunk().step > durable), "the new epoch's snapshots count"
    village.until_done(record)
    attempts = chunk().attempts
    assert [one.epoch for one in attempts] == list(range(1, len(attempts) + 1))
    assert [one.end == "accepted" for one in attempts] == [False] * (len(attempts) - 1) + [True]


def test_where_a_code_has_just_enough_holders_their_loss_leaves_no_chunk_unprotected() -> None:
    """Twelve providers, so eleven holders, and eight of fourteen needs eleven; the worker dies, and copies must do."""
    village = Village(12)
    record = under_way(village, seconds=300)
    worker, durable = village.worker(record), step_of(village, record)
    village.kill(worker.name)
    successor = goes_on(village, record, worker)
    assert village.run(200, lambda: step_of(village, record) > durable)
    assert "are needed" in str(successor.emitted("snapshot_failed")[-1].fields["reason"])
    village.until_done(record, 600)


def test_all_three_watchers_die_with_the_worker() -> None:
    """Nobody is left to give its word: the lease's own time ends it, later than a fence would."""
    village = Village(14)
    record = under_way(village, seconds=20)
    worker = village.worker(record)
    for one in [worker, *watchers(village, record)]:
        if one.name not in ("validator", "steward"):
            village.kill(one.name)
    village.until_done(record, 1_000)


def test_the_worker_dies_before_its_first_snapshot() -> None:
    village = Village()
    record = village.submit(60, every=60)
    assert village.run(30, lambda: any(one.running() for one in village.people.values()))
    worker = village.worker(record)
    village.run(3)
    village.kill(worker.name)
    goes_on(village, record, worker)
    assert village.begun() == [0, 0]
    village.until_done(record)


# ── the steward ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_steward_is_killed_and_started_again_during_a_run() -> None:
    village = Village()
    record = under_way(village)
    before = step_of(village, record)
    village.kill("steward")
    village.run(20)
    village.start("steward")
    assert village.run(30, lambda: step_of(village, record) > before), "snapshots are told to the new process"
    assert village.begun() == [0], "the run went on meanwhile"
    village.until_done(record)


def test_steward_and_worker_die_together() -> None:
    village = Village()
    record = under_way(village)
    durable, worker = step_of(village, record), village.worker(record)
    village.kill("steward")
    village.kill(worker.name)
    village.run(30)
    village.start("steward")
    assert goes_on(village, record, worker).begun[-1][1] >= durable
    village.until_done(record)


# ── returns ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_worker_that_returns_after_fencing_is_refused() -> None:
    """Split brain: both execute the chunk, one of them owns the epoch."""
    village = Village()
    record = under_way(village, seconds=40)
    worker = village.worker(record)
    worker.dark_until = Micros(village.now + 25 * SECOND)
    successor = goes_on(village, record, worker)
    assert epoch_of(village, record) == 2
    assert worker.running(), "it does not know yet that it is fenced"
    village.run(20, lambda: village.now > worker.dark_until + 3 * SECOND)
    assert not worker.running(), "it has heard of the fence, and stopped"
    after = [notice for name, notice in village.notices if name == worker.name]
    village.until_done(record)
    assert village.record(record.job).chunks[0].provider == successor.id
    assert after, "its notices came late"
    assert village.record(record.job).chunks[0].snapshot_epoch in (1, 2)
    assert epoch_of(village, record) == 2
    assert village["validator"].machines.ledger.available("S", worker.id) > 0
    assert not any(end == "ok" for end in (one.reason for one in worker.done))


def test_a_result_of_an_older_epoch_is_not_paid() -> None:
    """The fenced worker finishes in the dark, and claims when it is back."""
    village = Village()
    record = under_way(village, seconds=30)
    worker = village.worker(record)
    before = village["validator"].machines.ledger.available("U", worker.id)
    worker.dark_until = Micros(village.now + 28 * SECOND)
    successor = goes_on(village, record, worker)
    assert village.run(40, lambda: any(one.reason == "ok" for one in worker.done))
    village.until_done(record)
    assert village.record(record.job).chunks[0].provider == successor.id
    village.run(10)
    assert village["validator"].machines.ledger.available("U", worker.id) == before
    village["validator"].machines.ledger.check()


@pytest.mark.parametrize("dark", [3, 9])
def test_a_flapping_node(dark: int) -> None:
    """Away for `dark` seconds of every 14: short gaps cost nothing, long ones a move, and never the job."""
    village = Village()
    record = under_way(village)
    worker = village.worker(record)

    def flap() -> None:
        worker.dark_until = Micros(village.now + dark * SECOND)
        village.at(14 * SECOND, flap)

    village.at(SECOND, flap)
    village.until_done(record)
    if dark < 5:
        assert epoch_of(village, record) == 1, "three seconds are no death"
    assert all(first == 0 or first >= 10 for first in village.begun())


@pytest.mark.parametrize("seconds", [2, 5, 10, 15])
def test_a_blackout(seconds: int) -> None:
    village = Village()
    record = under_way(village)
    durable, worker = step_of(village, record), village.worker(record)
    worker.dark_until = Micros(village.now + seconds * SECOND)
    village.until_done(record)
    if seconds <= 2:
        assert epoch_of(village, record) == 1
    assert all(first >= durable for first in village.begun()[1:] if first), village.begun()


@pytest.mark.parametrize("seconds", [3, 40, 600])
def test_a_laptop_sleeps_and_resumes(seconds: int) -> None:
    village = Village()
    record = under_way(village)
    durable, worker = step_of(village, record), village.worker(record)
    village.sleep(worker.name, seconds)
    if seconds > 30:
        assert goes_on(village, record, worker).begun[-1][1] >= durable
    village.until_done(record)
    village.run(seconds)
    assert not worker.running(), "what it woke up with is not its any more"
    village["validator"].machines.ledger.check()


# ── bad lines and bad clocks ─────────────────────────────────────────────────────────────────────────────────────────
def test_thirty_percent_loss_moves_nobody() -> None:
    village = Village()
    village.loss = 0.3
    record = under_way(village, seconds=120)
    village.until_done(record, 400)
    assert epoch_of(village, record) == 1, "no false death"
    assert village.begun() == [0]
    assert len({notice.body for _, notice in village.notices}) >= 10, "and snapshots stayed durable"


@pytest.mark.parametrize("way", ["out", "in"])
def test_an_asymmetric_partition(way: str) -> None:
    """The worker is heard by nobody, or hears nobody."""
    village = Village()
    record = under_way(village)
    durable, worker = step_of(village, record), village.worker(record)
    others = [name for name in village.people if name != worker.name]
    village.cuts |= {(worker.name, name) if way == "out" else (name, worker.name) for name in others}
    if way == "out":
        assert goes_on(village, record, worker).begun[-1][1] >= durable
    village.run(30)
    village.cuts.clear()
    village.until_done(record)


def test_the_steward_is_cut_off_from_the_worker_alone() -> None:
    """Watchers hear it, the steward does not: nobody fences who is alive."""
    village = Village()
    record = under_way(village)
    worker = village.worker(record)
    village.cuts |= {(worker.name, "steward"), ("steward", worker.name)}
    village.run(20)
    assert epoch_of(village, record) == 1
    village.cuts.clear()
    village.until_done(record)
    assert village.begun() == [0]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_watchers_starved_of_processor_time_accuse_nobody(count: int) -> None:
    """Lifeguard's scenario: the watchers are late, not the worker."""
    village = Village(12)
    record = under_way(village)
    for one in watchers(village, record)[:count]:

        def starve(one: Villager = one) -> None:
            one.starved_until = Micros(village.now + 9 * SECOND)
            village.at(10 * SECOND, starve)

        starve()
    village.run(30)
    assert epoch_of(village, record) == 1
    village.until_done(record, 600)


def wrong_clocks(village: Village, names: list[str], hours: int) -> None:
    """These peers start with a clock that is wrong."""
    for name in names:
        village[name].skew = hours * HOUR
        village.restart(name)
    village.run(150)  # Until offers of before have ended.


@pytest.mark.parametrize("hours", [1, -1])
@pytest.mark.parametrize("names", [["p1"], ["p1", "p2", "p3"]], ids=["standby", "holders"])
def test_clocks_that_are_an_hour_wrong_elsewhere(names: list[str], hours: int) -> None:
    village = Village(12)
    wrong_clocks(village, names, hours)
    record = under_way(village)
    durable, worker = step_of(village, record), village.worker(record)
    village.kill(worker.name)
    assert goes_on(village, record, worker).begun[-1][1] >= durable
    village.until_done(record)


@pytest.mark.parametrize("hours", [1, -1])
def test_a_worker_whose_clock_is_an_hour_wrong(hours: int) -> None:
    """Protected, or told that it is not; done and paid in any case."""
    village = Village(12)
    wrong_clocks(village, ["p0"], hours)
    record = village.submit(60, every=EVERY)
    village.until_done(record, 400)
    worker = village.worker(record)
    if worker.skew:
        failed = [one.fields["code"] for one in worker.emitted("snapshot_failed")]
        assert step_of(village, record) > 0 or failed


@pytest.mark.parametrize("hours", [1, -1])
def test_a_steward_whose_clock_is_an_hour_wrong(hours: int) -> None:
    """It knows no live offer: the renter is refused before anything is paid."""
    village = Village()
    wrong_clocks(village, ["steward"], hours)
    with pytest.raises(Refused) as refusal:
        village.submit()
    assert refusal.value.code == "no_capacity"
    village["steward"].skew = 0
    village.restart("steward")
    village.run(150)
    village.until_done(village.submit(20))


def test_an_uplink_that_breaks_down_keeps_the_last_durable_step() -> None:
    village = Village()
    record = under_way(village)
    worker = village.worker(record)
    durable = step_of(village, record)
    worker.rate = 20
    """2 KB take a hundred seconds."""
    village.run(20)
    behind = worker.running()[0].step(village.now) - step_of(village, record)
    assert behind >= 2 * EVERY, "nothing new is called durable"
    village.kill(worker.name)
    assert goes_on(village, record, worker).begun[-1][1] >= durable
    village.until_done(record)


def test_preempted_during_the_setup_of_a_recovery() -> None:
    """The successor's owner wants the machine back while it restores."""
    village = Village(12)
    record = under_way(village)
    worker, standby = village.worker(record), village.standby(record)
    assert standby is not None
    durable = step_of(village, record)
    village.kill(worker.name)
    assert village.run(40, lambda: bool(standby.machines.provider.leases))
    machines = standby.machines

    def leave(now: Micros) -> list[Effect]:
        machines.provider.is_draining = True
        return machines.reclaim.begin(list(machines.provider.leases.values()), Micros(10 * SECOND), now)

    village.command(standby.name, machines.reclaim, leave)
    last = goes_on(village, record, standby, 90)
    assert last.begun[-1][1] >= durable
    village.until_done(record)


def test_nobody_knows_the_secret_before_the_epoch_moves() -> None:
    village = Village()
    record = under_way(village)
    worker, standby = village.worker(record), village.standby(record)
    assert standby is not None
    assert standby.parked, "it is ready"
    assert not standby.machines.provider.leases, "and has no lease, so no secret"
    first = next(iter(worker.machines.provider.leases.values())).secret
    everything = b"".join([*standby.records.values(), *standby.blobs.values()])
    assert first not in everything
    village.kill(worker.name)
    goes_on(village, record, worker)
    assert next(iter(standby.machines.provider.leases.values())).secret == first


def test_two_chunks_on_two_machines_die_at_once() -> None:
    village = Village(14)
    record = village.submit(60, every=EVERY, chunks=2)

    def chunks() -> list[ChunkRecord]:
        return village.record(record.job).chunks

    assert village.run(60, lambda: all(chunk.step >= 10 for chunk in chunks()))
    for name in {village.name(chunk.provider) for chunk in chunks()}:
        village.kill(name)
    assert village.run(2 * MINUTE / SECOND, lambda: all(chunk.epoch == 2 for chunk in chunks()))
    village.until_done(record)
    assert sorted(village.begun())[2:] and min(sorted(village.begun())[2:]) >= 10
