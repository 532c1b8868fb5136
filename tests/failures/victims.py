"""Nodes that are killed at a point of taking or restoring a snapshot. `python -m tests.failures.victims FOLDER IMAGES
PHASE...`: one process per phase, each in a folder of its own; 0 = every one of them died there and nowhere else."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import trio

from node.protection.phases import PHASES, Phase
from node.runtimes import discover
from protocol.completions import Sealed
from protocol.effects import Run
from protocol.snapshots import Pack
from tests.node.executors import conftest as tiers
from tests.node.protection.stand import Host, Stand, protected, resume_of
from tests.node.waiting import happens

CUT: Final = PHASES[: PHASES.index("fetching")]
RESTORE: Final = PHASES[PHASES.index("fetching") :]
STEPS: Final = "100000"
"""More than there is time for: no job ends before its node dies, however slow the machine is."""

PATIENCE_S: Final = 180.0


class Noted(msgspec.Struct):
    """What a victim leaves word of before it dies: its first snapshot."""

    number: int
    step: int
    size: int
    index_bytes: int
    packs: tuple[Pack, ...]


def stand_in(folder: Path, images: Path) -> Stand:
    """The tier without containers, as elsewhere in these tests."""
    return Stand(folder, tiers.executors(images)["bwrap"], discover({}, None))


def dies_at(host: Host, phase: Phase) -> None:
    """From now on this process is killed when the phase is reached."""

    def note(reached: Phase) -> None:
        if reached == phase:
            os.kill(os.getpid(), signal.SIGKILL)

    assert host.runner._shelter is not None
    host.runner._shelter = replace(host.runner._shelter, on_phase=note)
    for live in host.runner._live.values():
        assert live.agent is not None and live.agent._sealer is not None
        live.agent._sealer.on_phase = note


def job(stand: Stand, host: Host, epoch: int = 1) -> Run:
    return protected(stand.spec(host, STEPS=STEPS, PAUSE="0.05"), epoch=epoch)


async def _first(host: Host, work: Run, folder: Path) -> Sealed:
    await happens(lambda: len(host.lines) >= 3, PATIENCE_S)
    sealed = await host.sealed(work.task)
    await happens(lambda: any((host.folder / "tasks").glob("*/kept")), PATIENCE_S)
    noted = Noted(sealed.number, sealed.step, sealed.size, sealed.index_bytes, sealed.packs)
    (folder / "noted").write_bytes(msgspec.msgpack.encode(noted))
    return sealed


async def die(folder: Path, images: Path, phase: Phase) -> None:
    """Take one snapshot, then die in the second, or in restoring the first on another node."""
    stand = stand_in(folder, images)
    one = await stand.host()
    work = job(stand, one)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, work)
        sealed = await _first(one, work, folder)
        if phase in CUT:
            dies_at(one, phase)
            await one.cut(work.task)
            await happens(lambda: False, PATIENCE_S)
        one.runner.stop(work.task)
    two = await stand.host()
    dies_at(two, phase)
    await two.run(protected(job(stand, one).spec, epoch=2, resume=resume_of(sealed)))


def main(folder: Path, images: Path, phases: list[Phase]) -> int:
    """Fork one victim per phase, and see how each ends."""
    children = {}
    for phase in phases:
        (folder / phase).mkdir()
        child = os.fork()
        if not child:
            os.chdir(folder / phase)
            trio.run(die, folder / phase, images, phase)
            os._exit(3)
        children[phase] = child
    ends = {phase: os.waitpid(child, 0)[1] for phase, child in children.items()}
    alive = [phase for phase, status in ends.items() if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != 9]
    sys.stderr.write(f"not killed where they should have been: {alive}\n" if alive else "")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), [phase for phase in PHASES if phase in sys.argv[3:]]))
