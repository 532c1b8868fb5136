"""Snapshots of simulated tasks: the works of custody on virtual time. Its twins are `node/runner.py` and
`node/protection/`.

State is a size. Shards are blobs of that size that somebody holds; nobody reads their bytes, so a proof is a keyed hash
of their name. What takes time in a node takes time here: standing still, sealing, encoding, opening.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol import wire
from protocol.completions import Completion, CutFailed, Encoded, FirstUnits, Guest, Proved, Sealed
from protocol.effects import Cut, Encode, Forget, Park, Prove, Run, Unpark
from protocol.snapshots import PACKS_MAX, Pack, proof_of, shard_of
from protocol.trace import TraceTree
from protocol.units import MIB, PPM, Digest
from simulations.library import Library
from simulations.queue import Queue
from simulations.scenario import NS
from simulations.simpeer import SimPeer
from simulations.tasks import Task
from simulations.units import FirstPart, first_part

Give = Callable[[SimPeer, int, Completion], None]

CUT_NS: Final = 3_000_000
"""A job stands still for so many ns at least when it is cut: what the hook was measured to take for small states."""

COPY_RATE: Final = 5_000_000_000
"""Bytes per second that leave a GPU for memory while the job stands still: PCIe 3.0 with half of its lanes."""

SEAL_RATE: Final = 250_000_000
"""Bytes per second that are compressed, encrypted and hashed while the job goes on: one slow core."""

ENCODE_RATE: Final = 1_000_000_000
"""Bytes per second of which parity is made."""

PACK_BYTES: Final = 256 * MIB
"""Bytes of a pack at most (storage/packs.py)."""

INDEX_BYTES: Final = 65_536
"""Bytes of a snapshot's table of contents."""

NOTHING: Final = bytes(32)
"""The proof of who has nothing."""


class Protecting:
    """Performs `Cut`, `Encode`, `Prove`, `Forget`, `Park` and `Unpark` for all peers."""

    def __init__(self, queue: Queue, library: Library, give: Give) -> None:
        self._queue = queue
        self._library = library
        self._give = give
        self.tasks: dict[str, Task] = {}
        """Every protected execution of the run by name, also those that have ended."""
        self.state_of: Callable[[Run], int] = lambda run: 0
        """Bytes that a snapshot of a job has; 0: it cannot be cut."""
        self.again: Callable[[Task], None]
        """A task goes on later than it was to: its end has to be set anew."""
        self.parts: dict[Digest, FirstPart] = {}
        """First shard of a snapshot of units -> what it holds."""
        self.shards: dict[Digest, tuple[str, int, int]] = {}
        """Every shard that was ever made -> (task, number of the snapshot, pack)."""

    # ── snapshots ────────────────────────────────────────────────────────────────────────────────────────────────────
    def cut(self, peer: SimPeer, work: Cut) -> None:
        """At the end of the step that the task is in."""
        task, now = self.tasks.get(work.task), self._queue.now
        if task is None or not task.is_running() or not self.state_of(task.run) or task.is_sealing:
            self._give(peer, peer.boots, CutFailed(work.task, "it cannot be cut now"))
            return
        task.is_sealing = True
        is_now = task.is_held or (work.hold and task.made is not None)  # For a handover what units there are will do.
        head = now if is_now else task.since + task.at_step(task.step(now) + 1) - task.done
        self._queue.at(max(now, head), self._at_head, (task, work))

    def _at_head(self, cut: tuple[Task, Cut]) -> None:
        task, work = cut
        if not task.is_running():
            return
        now, size = self._queue.now, self.state_of(task.run)
        step = task.step(now)
        if task.made is not None and not task.first < step < task.steps:
            task.is_sealing = False
            self._give(task.peer, task.boot, CutFailed(work.task, "no unit was done since the last snapshot"))
            return
        stall = CUT_NS + size * NS // COPY_RATE if task.made is None else 0  # Unit programs write states by themselves.
        task.done = task.work(now)
        task.since, task.is_held = now + stall, task.is_held or work.hold
        task.number += 1
        self.again(task)
        self._queue.at(now + stall + size * NS // SEAL_RATE, self._sealed, (task, work, task.number, step, stall))

    def _sealed(self, sealed: tuple[Task, Cut, int, int, int]) -> None:
        task, work, number, step, stall = sealed
        task.is_sealing = False
        if not task.is_running():
            return
        size = self.state_of(task.run)
        packs = self._packs(task, number, size, work)
        name, first = task.run.task, None
        if task.made is not None:
            part = first_part(task.made, step)
            if self._queue.now < task.peer.strategy.at or task.peer.strategy.saves(
                task.peer, task.run, self._queue.now
            ):
                self.parts[Digest(packs[0].shards[0])] = part
            first = FirstUnits(step, TraceTree(part.trace).root, task.first)
        self._give(task.peer, task.boot, Guest(name, "running", "", step))
        done = Sealed(
            task=name,
            number=number,
            step=step,
            progress_ppm=step * PPM // task.steps,
            tier="framework" if first is None else "application",
            size=size,
            stall_us=stall // 1_000,
            index_bytes=min(INDEX_BYTES, packs[-1].size),
            packs=packs,
            is_rehearsed=True,
            first=first,
        )
        self._give(task.peer, task.boot, done)

    def _packs(self, task: Task, number: int, size: int, work: Cut) -> tuple[Pack, ...]:
        """Named, and the data shards put on the worker's disk."""
        pack_max = max(PACK_BYTES, -(-size // PACKS_MAX))
        sizes = [min(pack_max, size - start) for start in range(0, size, pack_max)]
        made = []
        for place, one in enumerate(sizes):
            count = 1 if work.k == 1 else work.n
            shards = tuple(wire.digest(wire.encode((task.run.task, number, place, at))) for at in range(count))
            shard_size = -(-one // work.k)
            for at, shard in enumerate(shards):
                self.shards[shard] = (task.run.task, number, place)
                if at < work.k:
                    self._library.hold(task.peer.index, shard, shard_size)
            made.append(Pack(one, shard_size, "copy" if work.k == 1 else "rs", work.k, work.n, shards))
        return tuple(made)

    # ── shards ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def encode(self, peer: SimPeer, work: Encode) -> None:
        """All shards of a pack, from any k that are here."""
        pack = work.pack
        here = sum(self._library.has(peer.index, Digest(shard_of(pack, at))) for at in range(pack.n))
        if here < pack.k:
            self._give(peer, peer.boots, Encoded(Digest(pack.shards[0]), "too_few_shards"))
            return
        self._queue.at(self._queue.now + pack.size * NS // ENCODE_RATE, self._encoded, (peer, peer.boots, pack))

    def _encoded(self, made: tuple[SimPeer, int, Pack]) -> None:
        peer, boot, pack = made
        if not peer.is_up or peer.boots != boot:
            return
        for shard in pack.shards:
            self._library.hold(peer.index, Digest(shard), pack.shard_size)
        self._give(peer, boot, Encoded(Digest(pack.shards[0]), ""))

    def prove(self, peer: SimPeer, work: Prove) -> None:
        """The answer to a challenge; of what is not here, zeros."""
        digest = Digest(work.challenge.shard)
        proof = proof_of(work.challenge, [digest]) if self._library.has(peer.index, digest) else NOTHING
        answer = Proved(work.peer, digest, work.challenge.nonce, proof)
        self._queue.at(self._queue.now, self._told, (peer, peer.boots, answer))

    def _told(self, late: tuple[SimPeer, int, Completion]) -> None:
        self._give(*late)

    def forget(self, peer: SimPeer, work: Forget) -> None:
        """A blob that nobody here needs."""
        self._library.drop(peer.index, work.digest)

    # ── standbys ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def park(self, peer: SimPeer, work: Park, boot_ns: int) -> None:
        """Inputs are here: the script runs to its first loop."""
        self._queue.at(self._queue.now + boot_ns, self._parked, (peer, peer.boots, work.run.task))

    def _parked(self, parked: tuple[SimPeer, int, str]) -> None:
        peer, boot, name = parked
        if peer.is_up and peer.boots == boot and name in peer.parked:
            peer.parked[name] = True

    def unpark(self, peer: SimPeer, work: Unpark) -> None:
        """Nobody waits any more."""
        peer.parked.pop(work.task, None)


def parked_name(task: str) -> str:
    """Under which name a chunk waits that will run as this task (`protocol.standby`)."""
    return f"park-{task.rpartition('-')[0]}"
