"""The machines of custody on virtual time: cut, kept, lost, brought back, handed over."""

from __future__ import annotations

import msgspec
import pytest

from protocol.completions import CutFailed, Encoded, Proved
from protocol.effects import Cut, Encode, Forget, Prove, Run
from protocol.snapshots import Challenge, Pack, proof_of
from protocol.units import Digest
from simulations.scenario import NS, Injection
from tests.simulations.protected import JOBS, MB, Staged, protected, worker_of
from tests.simulations.small import Answers, awake, kill

GIVEN = protected()
WORKER = worker_of(GIVEN)


@pytest.fixture(scope="module")
def killed() -> Staged:
    """The plug of the only worker is pulled after 70 s."""
    stage = Staged(GIVEN, faults=(kill(70, 20, WORKER),))
    stage.run()
    return stage


def test_a_chunk_goes_on_elsewhere_from_what_was_durable(killed: Staged) -> None:
    first, second = killed.tasks[1], killed.tasks[2]
    assert first.peer.index == WORKER != second.peer.index
    assert 30 <= second.first <= first.step(first.ended) <= 70
    assert [loss.kind for loss in killed.losses.losses] in (["hot"], ["cold"])


def test_the_output_is_the_same_as_without_the_loss(killed: Staged) -> None:
    calm = Staged(GIVEN)
    calm.run()
    outputs = [set(stage.world.driver.worker.output_of) for stage in (killed, calm)]
    assert outputs[0] == outputs[1] and len(outputs[0]) == 1
    assert set(calm.tasks) == {1}


def test_what_was_lost_is_measured(killed: Staged) -> None:
    (loss,) = killed.losses.losses
    first, second = killed.tasks[1], killed.tasks[2]
    assert (loss.end, loss.state, loss.uplink) == ("died", 50 * MB, 100 * MB)
    assert loss.lost_s == (first.work(first.ended) - first.at_step(second.first)) / NS < 30
    assert killed.losses.tally().bytes > 50 * MB


def test_the_same_seed_gives_the_same_run(killed: Staged) -> None:
    again = Staged(GIVEN, faults=(kill(70, 20, WORKER),))
    assert again.run().driver.auditor.hexdigest() == killed.world.driver.auditor.hexdigest()


def test_the_job_begins_again_when_its_holders_are_all_gone() -> None:
    others = [index for index in range(2, 16) if index != WORKER]
    dead = Injection(number=0, at=70 * NS, until=75 * NS, kind="disk", peers=(WORKER, *others[:11]), disk="dead")
    stage = Staged(protected(providers=14), faults=(dead,))
    stage.run()
    assert stage.tasks[max(stage.tasks)].first == 0 or stage.custody.findings.failures == []
    assert stage.custody.findings.exposures
    assert all(one.lost > one.spare for one in stage.custody.findings.exposures)


def test_a_leave_with_notice_loses_no_step() -> None:
    leaving = Injection(number=0, at=60 * NS, until=120 * NS, kind="reclaim", peers=(WORKER,), amount=20.0)
    stage = Staged(GIVEN, faults=(leaving,))
    stage.run()
    first, second = stage.tasks[1], stage.tasks[2]
    assert first.is_held and second.first == first.step(first.ended) > 50
    assert stage.custody.findings.handed == 1


def test_who_restores_may_die_of_it_too() -> None:
    waits = Injection(number=1, at=60 * NS, until=90 * NS, kind="ambush", peers=(), amount=0.5)
    stage = Staged(GIVEN, faults=(kill(70, 20, WORKER), waits))
    world = stage.run()
    assert world.recorder.counts["ambush/struck"] == 1
    assert len(stage.tasks) >= 2 and stage.tasks[max(stage.tasks)].first > 0


def test_a_starved_process_acts_when_it_gets_its_time_back() -> None:
    starved = Injection(number=0, at=30 * NS, until=33 * NS, kind="starve", peers=(1, 2, 3))
    stage = Staged(GIVEN, faults=(starved,))
    stage.run()
    assert stage.losses.tally().fenced == 0 and set(stage.tasks) == {1}


# ── single works ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_task_that_does_not_run_cannot_be_cut() -> None:
    world = awake(GIVEN)
    answers = Answers(world)
    protecting = world.driver.worker.protecting
    protecting._give = answers.give
    protecting.cut(world.peers[2], Cut("nothing", False))
    assert [type(one) for _, one in answers.given] == [CutFailed]


def test_shards_are_made_proved_and_forgotten() -> None:
    world = awake(GIVEN)
    answers, peer, protecting = Answers(world), world.peers[2], world.driver.worker.protecting
    protecting._give = answers.give
    shards = tuple(bytes([at]) * 32 for at in range(14))
    pack = Pack(800, 100, "rs", 8, 14, shards)
    protecting.encode(peer, Encode(pack))
    for shard in shards[2:10]:
        world.library.hold(peer.index, Digest(shard), 100)
    protecting.encode(peer, Encode(pack))
    asked = Challenge(shards[0], bytes(32), (0,), 10)
    world.queue.run(world.queue.now + NS)
    protecting.prove(peer, Prove(peer.id, asked))
    protecting.forget(peer, Forget(Digest(shards[0])))
    protecting.prove(peer, Prove(peer.id, asked))
    world.queue.run(world.queue.now + NS)
    codes = [one.code for _, one in answers.given if isinstance(one, Encoded)]
    assert codes == ["too_few_shards", ""]
    proofs = [one.proof for _, one in answers.given if isinstance(one, Proved)]
    assert proofs == [proof_of(asked, [shards[0]]), bytes(32)]


def test_jobs_take_their_states_in_turn() -> None:
    jobs = msgspec.structs.replace(JOBS, state=(1 * MB, 2 * MB), limit=3)
    stage = Staged(protected(jobs=jobs, seconds=60, settle=0))
    world = stage.run()
    runs: list[Run] = [task.run for task in world.driver.worker.protecting.tasks.values()]
    sizes = {run.spec.name: world.driver.worker.state_of(run) for run in runs}
    assert sizes == {"job-0": 1 * MB, "job-1": 2 * MB, "job-2": 1 * MB}


def test_a_world_without_state_has_no_custody() -> None:
    world = awake(protected(jobs=msgspec.structs.replace(JOBS, state=())))
    assert all(peer.vault is None for peer in world.peers)
