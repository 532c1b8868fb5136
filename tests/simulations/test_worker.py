"""Hosts at work: what a chunk takes, what it gives, and how it ends early."""

from __future__ import annotations

from dataclasses import replace

from protocol.completions import RunDone, RunLog, RunStarted
from protocol.effects import Run
from protocol.jobspec import ZERO_DIGEST
from protocol.units import Digest
from simulations.proving import Result
from simulations.scenario import NS, Duration, Jobs
from simulations.simpeer import SimPeer
from simulations.strategy import Strategy
from simulations.tables.gpus import REFERENCE
from simulations.worker import START_NS, STOP_NS, Worker, honest_content
from simulations.workload import job_spec
from simulations.world import World
from tests.simulations.small import PROVIDER, STEWARD, Answers, awake, load, scenario

LOAD = load(seconds=8)


def working(jobs: Jobs | None = LOAD) -> tuple[World, Worker, Answers]:
    """Hosts with the reference card, and what executes for them."""
    world = awake(scenario(jobs=None))
    for peer in world.peers:
        peer.computer.gpu = REFERENCE
    answers = Answers(world)
    return world, Worker(world.seed, world.queue, world.library, jobs, answers.give), answers


def chunk(number: int = 0, jobs: Jobs = LOAD) -> Run:
    """The order to compute one chunk."""
    return Run(f"task-{number}", job_spec(jobs, "job"), number, (), (), Digest(bytes(32)))  # type: ignore[arg-type]


def outcome(answers: Answers) -> tuple[int, RunDone]:
    """When the one task ended, and how."""
    ((at, done),) = [(at, item) for at, item in answers.given if isinstance(item, RunDone)]
    return at, done


def test_a_chunk_starts_speaks_and_ends() -> None:
    world, worker, answers = working()
    peer = world.peers[PROVIDER]
    worker.run(peer, chunk())
    world.queue.run(60 * NS)
    assert answers.given[:2] == [
        (START_NS, RunStarted("task-0", "bwrap")),
        (START_NS, RunLog("task-0", ("chunk 0",))),
    ]
    at, done = outcome(answers)
    assert at == START_NS + 8 * NS and done.reason == "ok" and done.seconds == 8.0
    assert worker.seconds == {PROVIDER: 8 * NS}
    ((file, size),) = world.library.files(done.output)
    assert size == LOAD.output and world.library.has(PROVIDER, file)
    assert worker.output_of[done.output] == (done.output, PROVIDER)


def test_all_hosts_find_the_same_and_another_chunk_is_another_result() -> None:
    outputs = []
    for index, number in ((PROVIDER, 0), (PROVIDER + 1, 0), (PROVIDER, 1)):
        world, worker, answers = working()
        worker.run(world.peers[index], chunk(number))
        world.queue.run(60 * NS)
        outputs.append(outcome(answers)[1].output)
    assert outputs[0] == outputs[1] != outputs[2]


def test_a_chunk_is_as_long_wherever_it_is_computed() -> None:
    jobs = replace_time(Duration(model="lognormal", value=20 * NS, sigma=1.0))
    times = set()
    for index in (PROVIDER, PROVIDER + 1, STEWARD):
        world, worker, answers = working(jobs)
        worker.run(world.peers[index], chunk(3, jobs))
        world.queue.run(600 * NS)
        times.add(outcome(answers)[0])
    assert len(times) == 1


def replace_time(time: Duration) -> Jobs:
    """The load with other chunks."""
    return Jobs(arrival=LOAD.arrival, chunks=LOAD.chunks, chunk_time=time)


def test_a_host_that_corrupts_gives_another_result_and_the_honest_one_is_known() -> None:
    honest = working()
    honest[1].run(honest[0].peers[PROVIDER], chunk())
    honest[0].queue.run(60 * NS)
    world, worker, answers = working()
    world.peers[PROVIDER].computer.corrupt = 1.0
    worker.run(world.peers[PROVIDER], chunk())
    world.queue.run(60 * NS)
    done, right = outcome(answers)[1], outcome(honest[2])[1]
    assert done.reason == "ok" and done.output != right.output
    assert worker.output_of[done.output] == (right.output, PROVIDER)


def test_a_strategy_says_what_its_host_answers_once_it_has_turned() -> None:
    class Forger(Strategy):
        def result(self, peer: SimPeer, run: Run, honest: Result, now: int) -> Result:
            return Result(b"guessed", NS // 2)

    for turns, took in ((0, NS // 2), (NS, 8 * NS)):
        world, worker, answers = working()
        world.peers[PROVIDER].strategy = Forger(turns, {})
        worker.run(world.peers[PROVIDER], chunk())
        world.queue.run(60 * NS)
        assert outcome(answers)[0] == START_NS + took


def test_a_chunk_over_its_limit_is_ended_there() -> None:
    for slower, reason in ((29, "ok"), (31, "timeout")):
        world, worker, answers = working()
        peer = world.peers[PROVIDER]
        peer.computer.gpu = replace(REFERENCE, boost_mhz=REFERENCE.boost_mhz // slower)
        worker.run(peer, chunk())
        world.queue.run(600 * NS)
        at, done = outcome(answers)
        assert done.reason == reason and at <= START_NS + 240 * NS
        assert (done.output == ZERO_DIGEST) == (reason == "timeout")


def test_a_job_that_is_not_of_the_load_takes_its_estimate() -> None:
    world, worker, answers = working()
    worker.run(world.peers[PROVIDER], replace(chunk(), spec=job_spec(load(seconds=2), "of an adversary")))
    world.queue.run(60 * NS)
    assert outcome(answers)[0] == START_NS + 2 * NS


def test_a_stopped_task_says_so_and_nothing_else_later() -> None:
    world, worker, answers = working()
    worker.run(world.peers[PROVIDER], chunk())
    world.queue.run(3 * NS)
    worker.stop(world.peers[PROVIDER], "task-0")
    world.queue.run(60 * NS)
    at, done = outcome(answers)
    assert at == 3 * NS + STOP_NS and done.reason == "stopped" and worker.seconds == {}


def test_what_is_stopped_before_it_speaks_stays_silent() -> None:
    world, worker, answers = working()
    worker.run(world.peers[PROVIDER], chunk())
    worker.stop(world.peers[PROVIDER], "task-0")
    world.queue.run(60 * NS)
    assert [type(item) for _, item in answers.given] == [RunDone]


def test_a_host_that_dies_forgets_its_work() -> None:
    world, worker, answers = working()
    peer = world.peers[PROVIDER]
    worker.run(peer, chunk())
    world.queue.run(2 * NS)
    world.lifecycle.kill(peer, torn=False)
    world.lifecycle.start(peer)
    world.queue.run(60 * NS)
    assert [type(item) for _, item in answers.given] == [RunStarted, RunLog]


def test_missing_inputs_end_a_task() -> None:
    world, worker, answers = working()
    worker.failed(world.peers[PROVIDER], 1, chunk(), "nobody has it")
    assert outcome(answers)[1].reason == "inputs"


def test_without_a_load_a_chunk_takes_its_estimate() -> None:
    world, worker, answers = working(None)
    worker.run(world.peers[PROVIDER], chunk())
    world.queue.run(60 * NS)
    assert outcome(answers)[0] == START_NS + 8 * NS


def test_the_result_hangs_on_the_job_the_chunk_and_what_it_reads() -> None:
    one = chunk()
    others = [chunk(1), replace(one, outputs=(Digest(b"o" * 32),)), replace(one, spec=job_spec(LOAD, "another"))]
    assert len({honest_content(run) for run in (one, *others)}) == 4
    assert honest_content(replace(one, task="again")) == honest_content(one)
