"""Computing in the simulator: a chunk takes its host's time, and its result is a function of what it reads."""

from __future__ import annotations

from collections.abc import Callable

from protocol import wire
from protocol.completions import Completion, RunDone, RunLog, RunStarted
from protocol.effects import Run
from protocol.jobspec import ZERO_DIGEST, Manifest, OutputFile
from protocol.units import Digest
from simulations import chance
from simulations.compute import draw
from simulations.library import Library
from simulations.protecting import Protecting
from simulations.proving import Proving, Result
from simulations.queue import Queue
from simulations.scenario import NS, Jobs
from simulations.simpeer import EXECUTOR, SimPeer
from simulations.tasks import Task, steps_of

START_NS = 300_000_000
"""From a lease to the first line inside the sandbox, ns: what the live node takes with bwrap and a warm runtime."""

BOOT_NS = 4_200_000_000
"""The same for a job whose state is saved, ns: it imports a framework (3.2 s measured) and opens its GPU."""

PARKED_NS = 100_000_000
"""From the word to the first line for a script that waits at its first loop, ns."""

OPEN_RATE = 500_000_000
"""Bytes per second of a snapshot that are decrypted, decompressed and laid out: one core."""

STOP_NS = 20_000_000
"""A killed sandbox is gone after so many ns."""

Give = Callable[[SimPeer, int, Completion], None]
"""(peer, boot, completion): delivered when the peer still runs in that boot."""


def honest_content(run: Run) -> bytes:
    """What every honest host finds for a chunk."""
    return wire.encode((wire.digest(wire.encode(run.spec)), run.chunk, run.outputs))


class Worker:
    """Executes `Run` effects of all peers."""

    def __init__(self, seed: int, queue: Queue, library: Library, jobs: Jobs | None, give: Give) -> None:
        self._seed = seed
        self._queue = queue
        self._library = library
        self._load = jobs
        self._give = give
        self.output_of: dict[bytes, tuple[bytes, int]] = {}
        """Digest of an output manifest -> (the honest one's digest, index of who made it); for checkers."""
        self.protecting = Protecting(queue, library, give)
        self.protecting.again, self.protecting.state_of = self._expect, self.state_of
        self.proving = Proving(seed, library, self.output_of)
        self.protecting.parts = self.proving.parts
        self._running: dict[int, dict[str, Task]] = {}
        """By peer and name."""
        self.seconds: dict[int, int] = {}
        """Computing time per peer, ns: the cost of an attack and of honest work."""

    def run(self, peer: SimPeer, run: Run, first: int = 0, boot_ns: int = START_NS) -> Task:
        """Start a chunk whose inputs are here. Its `RunDone` comes after its time, unless the peer dies first.

        `first`: the step that its snapshot is of; `boot_ns`: how long it takes until the job's own code runs on. Of
        units, a snapshot for which nobody signed is begun again at unit 0."""
        queue, boot, work = self._queue, peer.boots, self._work(run)
        is_flipped, steps = peer.computer.is_corrupt(), steps_of(work)
        if self.proving.is_unit_work(run):
            before = self.proving.inherited(run.resume.manifest) if first and run.resume is not None else None
            first, steps = before.trace.units if before is not None else 0, run.spec.units
            result = self.proving.result(peer, run, peer.computer.time(work), is_flipped, queue.now, before)
        else:
            honest = Result(honest_content(run), peer.computer.time(work))
            if is_flipped:
                honest = Result(honest.content + f"flipped by {peer.name}".encode(), honest.time)
            result = peer.strategy.result(peer, run, honest, queue.now) if queue.now >= peer.strategy.at else honest
        self._later(boot_ns, peer, boot, RunStarted(run.task, EXECUTOR))
        self._later(boot_ns, peer, boot, RunLog(run.task, (f"chunk {run.chunk}",)))
        began = queue.now + boot_ns
        task = Task(peer, boot, run, result, steps, first, began, since=began)
        task.done = task.at_step(first)
        self._running.setdefault(peer.index, {})[run.task] = task
        if run.lease is not None:
            self.protecting.tasks[run.task] = task
        self._expect(task)
        return task

    def _expect(self, task: Task) -> None:
        """When it ends as things stand now: done, or out of time."""
        task.turn += 1
        limit = task.began + task.run.spec.timeout * 1_000
        end = limit if task.is_held else task.since + task.result.time - task.done
        self._queue.at(min(end, limit), self._end, (task, task.turn))

    def stop(self, peer: SimPeer, task: str) -> None:
        """The machines want a task ended; its `RunDone` says so soon."""
        peer.stopped.add(task)
        known = self._running.get(peer.index, {}).pop(task, None)
        if known is not None:
            known.ended = self._queue.now
        self._later(STOP_NS, peer, peer.boots, RunDone(task, "stopped", -1, ZERO_DIGEST, 0, 0.0, "stopped"))

    def killed(self, peer: SimPeer) -> None:
        """The host is gone, and what ran on it."""
        for task in self._running.pop(peer.index, {}).values():
            task.ended = self._queue.now

    def failed(self, peer: SimPeer, boot: int, run: Run, detail: str) -> None:
        """The inputs of a task did not come."""
        self._give(peer, boot, RunDone(run.task, "inputs", -1, ZERO_DIGEST, 0, 0.0, detail))

    def _work(self, run: Run) -> int:
        """The chunk's own length on the reference card, ns: the same for everybody who computes it."""
        if self._load is None or not self._is_of_load(run):
            return run.spec.estimate * 1_000
        return draw(self._load.chunk_time, chance.stream(self._seed, "chunk", run.spec.name, run.chunk))

    def state_of(self, run: Run) -> int:
        """Bytes that a snapshot of a chunk of this job has."""
        if self._load is None or not self._load.state or not self._is_of_load(run):
            return 0
        return self._load.state[int(run.spec.name.rpartition("-")[2]) % len(self._load.state)]

    def _is_of_load(self, run: Run) -> bool:
        """False: an adversary's own job."""
        load = self._load
        return load is not None and run.spec.estimate == max(1_000, load.chunk_time.value // 1_000)

    def _end(self, ended: tuple[Task, int]) -> None:
        task, turn = ended
        peer, run, result = task.peer, task.run, task.result
        if turn != task.turn or not task.is_running():
            return
        boot, now = task.boot, self._queue.now
        time = result.time - task.at_step(task.first)
        self.seconds[peer.index] = self.seconds.get(peer.index, 0) + time
        is_done, seconds = task.work(now) >= result.time, time / NS
        task.ended = now
        self._running.get(peer.index, {}).pop(run.task, None)
        if not is_done:
            self._give(peer, boot, RunDone(run.task, "timeout", -1, ZERO_DIGEST, 0, seconds, "over its time limit"))
            return
        if self.proving.is_unit_work(run):
            self._give(peer, boot, self.proving.done(peer, run, result.made, seconds, task.first))
            return
        size = self._load.output if self._load else 1
        digest = self._keep(peer, result.content, size)
        honest = honest_content(run)
        self.output_of[digest] = (digest if result.content == honest else _manifest(honest, size)[1], peer.index)
        self._give(peer, boot, RunDone(run.task, "ok", 0, digest, size, seconds, ""))

    def _keep(self, peer: SimPeer, content: bytes, size: int) -> Digest:
        file, digest, body = _manifest(content, size)
        self._library.hold(peer.index, file, size)
        self._library.put(peer.index, body)
        return digest

    def _later(self, delay: int, peer: SimPeer, boot: int, completion: Completion) -> None:
        self._queue.at(self._queue.now + delay, self._deliver, (peer, boot, completion))

    def _deliver(self, late: tuple[SimPeer, int, Completion]) -> None:
        peer, boot, completion = late
        if isinstance(completion, RunLog | RunStarted) and completion.task in peer.stopped:
            return
        self._give(peer, boot, completion)


def _manifest(content: bytes, size: int) -> tuple[Digest, Digest, bytes]:
    """(digest of the file, digest of the manifest, the manifest's bytes) of a result of `size` bytes."""
    file = wire.digest(content)
    body = wire.encode(Manifest((OutputFile("out.bin", file, size),)))
    return file, wire.digest(body), body
