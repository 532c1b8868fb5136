"""Unit jobs that are cut, killed and gone on with: a program that stands still where a test wants it, and two hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import trio

from node.protection.sealing import SealedFolder, lay_out
from node.proving.resuming import unpack
from protocol.completions import Guest, RunDone, Sealed
from protocol.effects import Resume, Run
from protocol.identity import Identity
from protocol.jobspec import Checkpoint, JobSpec
from protocol.operations import INHERITED_MAX, Inherited
from protocol.prefix import sign_prefix
from protocol.proof import Proof, Trace
from protocol.trace import decode_trace
from protocol.units import MIB
from storage.erasure import NUMPY
from storage.ids import Place
from tests.node.protection.stand import ESCROW, OWNER, SECRET, Host, Stand, protected, resume_of
from tests.node.proving.programs import WALK
from tests.node.waiting import happens

UNITS: Final = 8
ALICE: Final = Identity(b"\1" * 32)
NETWORK: Final = "test"

WAITING: Final = WALK.replace("import hashlib, os", "import hashlib, os, time").replace(
    "    def step(self, state, index):\n",
    """    def step(self, state, index):
        print("unit", index, flush=True)
        gate = os.environ["GATE"]
        while os.path.exists(gate) and int(open(gate).read()) == index:
            time.sleep(0.02)
""",
)
"""It waits before the unit whose number is in a file, as long as the file is there."""


class Ways:
    """A job, and a gate in front of its units."""

    def __init__(self, stand: Stand, folder: Path) -> None:
        self.stand = stand
        self._gate = folder / "gate"

    def spec(self, host: Host, program: str = WAITING, units: int = UNITS, **more: bytes) -> JobSpec:
        """Of one chunk, protected; every host has its inputs."""
        files = {"work.py": program.encode(), **more}
        spec = self.stand.spec(host, "python $SHOAL_IN/work.py", files=files, runtime="torch", GATE=str(self._gate))
        proof = Proof("deterministic", units=units)
        return msgspec.structs.replace(spec, numeric="D0", proof=proof, checkpoint=Checkpoint())

    def shut(self, unit: int) -> None:
        """Nobody begins this unit."""
        part = self._gate.with_suffix(".part")
        part.write_text(str(unit))
        part.replace(self._gate)

    def open(self) -> None:
        """Everybody does."""
        self._gate.unlink(missing_ok=True)

    async def lost(self, host: Host, work: Run, *stops: int) -> list[Sealed]:
        """Run, take a snapshot when so many units are done, and so on; then the host is gone."""
        found: list[Sealed] = []
        self.shut(stops[0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.run, work)
            for stop, after in zip(stops, (*stops[1:], None), strict=True):
                await happens(lambda stop=stop: max(done(host, work), default=0) >= stop)  # type: ignore[misc]
                found.append(await host.sealed(work.task))
                if after is not None:
                    self.shut(after)
            host.runner.stop(work.task)
        self.open()
        return found


def done(host: Host, work: Run) -> list[int]:
    """How many units were said to be done, in order."""
    return [said.steps for said in host.said if isinstance(said, Guest) and said.task == work.task]


def trace(host: Host, ended: RunDone) -> Trace:
    """What a run committed to."""
    assert ended.reason == "ok", (ended, host.lines)
    return decode_trace(host.blobs.read(ended.trace, MIB), OWNER)


def opened_trace(host: Host, sealed: Sealed, folder: Path) -> Trace:
    """Of the units in a snapshot, whose shards are here."""
    folder.mkdir()
    made = SealedFolder(
        Place(ESCROW, 0, INHERITED_MAX, sealed.number), sealed.tier, sealed.step, sealed.size, sealed.index_bytes,
        sealed.packs,
    )  # fmt: skip
    lay_out(made, SECRET, host.blobs, NUMPY, folder / "opened", 64 * MIB)
    (folder / "units").mkdir()
    return unpack(folder / "opened", folder / "units")[1]


def resuming(sealed: Sealed, epoch: int, before: tuple[Inherited, ...] = (), worker: Identity = ALICE) -> Resume:
    """What is granted once a worker has signed for the units of its snapshot."""
    assert sealed.first is not None
    own = sign_prefix(worker, NETWORK, ESCROW, 0, epoch, sealed.first.units, sealed.first.root, before)
    resume = resume_of(sealed, epoch)
    return Resume(msgspec.structs.replace(resume.manifest, inherited=(*before, own)), resume.holders)


def leased(spec: JobSpec, epoch: int, resume: Resume | None = None) -> Run:
    """A run under a lease of that epoch."""
    return protected(spec, epoch=epoch, resume=resume)
