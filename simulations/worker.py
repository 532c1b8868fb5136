"""Computing in the simulator: a chunk takes its host's time, and its result is a function of what it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protocol import wire
from protocol.completions import Completion, RunDone, RunLog, RunStarted
from protocol.effects import Run
from protocol.jobspec import ZERO_DIGEST, Manifest, OutputFile
from protocol.units import Digest
from simulations import chance
from simulations.compute import draw
from simulations.library import Library
from simulations.queue import Queue
from simulations.scenario import NS, Jobs
from simulations.simpeer import EXECUTOR, SimPeer

START_NS = 300_000_000
"""From a lease to the first line inside the sandbox, ns: what the live node takes with bwrap and a warm runtime."""

STOP_NS = 20_000_000
"""A killed sandbox is gone after so many ns."""

Give = Callable[[SimPeer, int, Completion], None]
"""(peer, boot, completion): delivered when the peer still runs in that boot."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a host found, and after how long."""

    content: bytes
    """Stands for the output: same bytes, same digest."""
    time: int
    """ns."""


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
        self.seconds: dict[int, int] = {}
        """Computing time per peer, ns: the cost of an attack and of honest work."""

    def run(self, peer: SimPeer, run: Run) -> None:
        """Start a chunk whose inputs are here. Its `RunDone` comes after its time, unless the peer dies first."""
        queue, boot = self._queue, peer.boots
        honest = Result(honest_content(run), peer.computer.time(self._work(run)))
        if peer.computer.is_corrupt():
            honest = Result(honest.content + f"flipped by {peer.name}".encode(), honest.time)
        result = peer.strategy.result(peer, run, honest, queue.now) if queue.now >= peer.strategy.at else honest
        limit = run.spec.timeout * 1_000
        self._later(START_NS, peer, boot, RunStarted(run.task, EXECUTOR))
        self._later(START_NS, peer, boot, RunLog(run.task, (f"chunk {run.chunk}",)))
        self._queue.at(queue.now + START_NS + min(result.time, limit), self._end, (peer, boot, run, result))

    def stop(self, peer: SimPeer, task: str) -> None:
        """The machines want a task ended; its `RunDone` says so soon."""
        peer.stopped.add(task)
        self._later(STOP_NS, peer, peer.boots, RunDone(task, "stopped", -1, ZERO_DIGEST, 0, 0.0, "stopped"))

    def failed(self, peer: SimPeer, boot: int, run: Run, detail: str) -> None:
        """The inputs of a task did not come."""
        self._give(peer, boot, RunDone(run.task, "inputs", -1, ZERO_DIGEST, 0, 0.0, detail))

    def _work(self, run: Run) -> int:
        """The chunk's own length on the reference card, ns: the same for everybody who computes it."""
        if self._load is None or run.spec.estimate != max(1_000, self._load.chunk_time.value // 1_000):
            return run.spec.estimate * 1_000  # Not a job of the load: an adversary's own.
        return draw(self._load.chunk_time, chance.stream(self._seed, "chunk", run.spec.name, run.chunk))

    def _end(self, ended: tuple[SimPeer, int, Run, Result]) -> None:
        peer, boot, run, result = ended
        if not peer.is_up or peer.boots != boot or run.task in peer.stopped:
            return
        seconds = result.time / NS
        self.seconds[peer.index] = self.seconds.get(peer.index, 0) + result.time
        if result.time > run.spec.timeout * 1_000:
            self._give(peer, boot, RunDone(run.task, "timeout", -1, ZERO_DIGEST, 0, seconds, "over its time limit"))
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
