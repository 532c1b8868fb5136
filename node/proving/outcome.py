"""What becomes of a finished run: its output, and for a job in units the trace or the replay's results."""

from __future__ import annotations

from dataclasses import dataclass, replace

from node import outputs
from node.blobs import BlobStore
from node.executors.interface import Exit, Task
from node.proving.program import has_units, is_check, is_finish, is_replay, manifest
from node.proving.retention import Retention
from node.proving.taking import Taken, take_results, take_trace
from protocol.effects import Run
from protocol.errors import Refused
from protocol.jobrules import PROOF_FOLDER
from protocol.jobspec import ZERO_DIGEST
from protocol.units import Digest


@dataclass(frozen=True, slots=True)
class Outcome:
    """The digests that a `RunDone` names."""

    output: Digest
    """Of the output manifest; of the `Results` for a replay; of the result itself where every check held."""
    size: int
    """Bytes of the output."""
    trace: Digest = ZERO_DIGEST


async def take(work: Run, task: Task, blobs: BlobStore, retention: Retention) -> Outcome:
    """Take everything that a task left. Every process of it is dead. Refused (`output`, `disk`, `disk_full`), and then
    nothing of it stays."""
    limit = work.spec.resources.disk_bytes
    if is_check(work):
        return Outcome(work.result, 0)
    if not has_units(work):
        return Outcome(*await outputs.collect(task.outside, blobs, limit))
    if is_finish(work):
        return Outcome(*await outputs.collect(task.outside, blobs, limit, PROOF_FOLDER))
    made: list[Digest] = []
    try:
        if is_replay(work):
            return await _replayed(work, task, blobs, retention, made)
        taken = await take_trace(task.outside, work.spec.units, blobs, limit, made)
        output, size = await outputs.collect(task.outside, blobs, limit - taken.size, PROOF_FOLDER)
    except Refused:
        for digest in made:
            blobs.remove(digest)
        raise
    _hold(taken, output, blobs, retention)
    return Outcome(output, size, taken.digest)


async def _replayed(work: Run, task: Task, blobs: BlobStore, retention: Retention, made: list[Digest]) -> Outcome:
    """The auditor's: the output counts where the last unit was computed again."""
    limit = work.spec.resources.disk_bytes
    indices = [leaf.index for leaf in work.units]
    output = ZERO_DIGEST
    last = task.outside / PROOF_FOLDER / f"{work.spec.units - 1}.state"
    if work.spec.units - 1 in indices and last.exists():
        output, _ = await outputs.collect(task.outside, blobs, limit, PROOF_FOLDER)
    taken = await take_results(task.outside, indices, output, blobs, limit, made)
    _hold(taken, output, blobs, retention)
    return Outcome(taken.digest, taken.size)


def broken(work: Run, task: Task, ended: Exit) -> Exit:
    """The end of a run that failed. Of a replay it says first in which unit: the one whose aux is not there."""
    if ended.reason != "exit" or not is_replay(work) or ended.detail.startswith("unit "):
        return ended
    folder = task.outside / PROOF_FOLDER
    at = next((leaf.index for leaf in work.units if not (folder / f"{leaf.index}.aux").is_file()), None)
    return ended if at is None else replace(ended, detail=f"unit {at}: {ended.detail}")


def _hold(taken: Taken, output: Digest, blobs: BlobStore, retention: Retention) -> None:
    """The output outlives the record, and the last state is a file of it."""
    kept = {output}
    if output != ZERO_DIGEST:
        kept |= {Digest(file.digest) for file in manifest(blobs, output).files}
    retention.keep(taken.digest, [digest for digest in taken.made if digest not in kept])
