"""Two hosts that share nothing but what is fetched: jobs are cut on one and go on on the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import trio

from node.blobs import BlobStore
from node.executors.interface import Executor
from node.process_tier.tier import ProcessTier
from node.protection.agent import Protected
from node.protection.shelter import Shelter
from node.runner import Runner
from node.runtimes import Runtime
from protocol.completions import CutFailed, Guest, RunDone, Sealed
from protocol.effects import Cut, Resume, Run
from protocol.errors import Refused, Unavailable
from protocol.jobspec import Chunk, FileRef, JobSpec, Manifest, Resources
from protocol.snapshots import Manifest as Snapshot
from protocol.units import MIB, Digest, Micros, PeerId
from protocol.wire import decode, decoder
from storage.erasure import Code
from tests.node.waiting import SECONDS, happens, until

OWNER, WORKER = PeerId(bytes(32)), PeerId(b"\2" * 32)
SECRET, ESCROW = b"\5" * 32, b"\7" * 32
TINY = Path(__file__).with_name("tiny_guest.py").read_bytes()
SMALL = Resources(memory_bytes=256 * MIB, disk_bytes=8 * MIB, shm_bytes=4 * MIB, pids=64)
GATE: Final[Mapping[str, bytes]] = MappingProxyType({"gate": b""})
"""The input of a job that stays at some step until a test opens its gate, so that it cannot end before it is cut."""
STAYS: Final = 6
"""Where the tiny guest stays, if its gate is shut."""


@dataclass
class Host:
    """One machine with one tier."""

    blobs: BlobStore
    folder: Path
    runner: Runner
    lines: list[str] = field(default_factory=list)
    said: list[Protected] = field(default_factory=list)
    asked: list[Digest] = field(default_factory=list)
    """Shards that were fetched."""
    started: list[str] = field(default_factory=list)
    evicted: list[str] = field(default_factory=list)
    code: Code = Code(1, 3)

    def heard(self, kind: type[Sealed | CutFailed | Guest]) -> list[Protected]:
        """What was told of one kind."""
        return [said for said in self.said if isinstance(said, kind)]

    @property
    def states(self) -> list[str]:
        """The states of the guests that were told."""
        return [said.state for said in self.said if isinstance(said, Guest)]

    async def run(self, work: Run) -> RunDone:
        """Run to the end, remembering everything."""
        return await self.runner.run(work, self.lines.extend, self.started.append, self.said.append)

    def stands(self, task: str) -> bool:
        """Whether the node knows the first process of a task that it runs, where that matters."""
        if (door := self.runner.door(task)) is None:
            return True
        try:
            door.way()
        except Unavailable:
            return False
        except Refused:
            return True
        return True

    async def cut(self, task: str, *, hold: bool = False) -> Protected:
        """A snapshot now, or why not. A container may speak before runc has told the node of its process."""
        await until(lambda: self.stands(task), SECONDS)
        count = len(self.heard(Sealed)) + len(self.heard(CutFailed))
        self.runner.cut(Cut(task, hold, self.code.k, self.code.n), self.said.append)
        await happens(lambda: len(self.heard(Sealed)) + len(self.heard(CutFailed)) > count)
        return next(said for said in reversed(self.said) if isinstance(said, Sealed | CutFailed))

    async def sealed(self, task: str, *, hold: bool = False) -> Sealed:
        """A snapshot now."""
        answer = await self.cut(task, hold=hold)
        assert isinstance(answer, Sealed), answer
        return answer

    def open_gate(self, name: str = "gate") -> None:
        """Let the job that stays before this gate go on."""
        (gate,) = self.folder.glob(f"tasks/*/in/{name}")
        gate.unlink()

    async def cut_and_stop(self, work: Run, lines: int = 4, then: Callable[[], None] = lambda: None) -> Sealed:
        """Let a job say so many lines, take a snapshot, open its gate, let it go on a little, and kill it, if it is
        still there."""
        found: list[Sealed] = []
        ended = trio.Event()

        async def run() -> None:
            await self.run(work)
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await happens(lambda: len(self.lines) >= lines)
            found.append(await self.sealed(work.task))
            then()
            seen = len(self.lines)
            self.open_gate()
            await happens(lambda: len(self.lines) > seen or ended.is_set())
            self.runner.stop(work.task)
        return found[0]

    def output(self, done: RunDone) -> dict[str, bytes]:
        """What a run put out, by path."""
        assert done.reason == "ok", (done, self.lines[-5:])
        manifest = decode(self.blobs.read(done.output, MIB), decoder(Manifest), OWNER, MIB)
        return {file.path: self.blobs.read(Digest(file.digest), 64 * MIB) for file in manifest.files}


@dataclass
class Stand:
    """Makes hosts and jobs."""

    folder: Path
    executor: Executor
    runtimes: Mapping[str, Runtime]
    hosts: list[Host] = field(default_factory=list)

    async def host(
        self,
        *,
        slots: int = 4,
        rehearses: bool = False,
        code: Code | None = None,
        process: ProcessTier | None = None,
    ) -> Host:
        """Another machine; it fetches shards from all those before it."""
        folder = self.folder / f"host{len(self.hosts)}"
        blobs = BlobStore(folder / "blobs", 1 << 30)
        earlier = tuple(self.hosts)
        asked: list[Digest] = []
        evicted: list[str] = []

        async def fetch(digest: Digest, size_max: int, sources: tuple[PeerId, ...]) -> None:
            await trio.lowlevel.checkpoint()
            asked.append(digest)
            for other in earlier:
                if other.blobs.has(digest) and other.blobs.size(digest) <= size_max:
                    assert WORKER in sources
                    blobs.put(other.blobs.read(digest, size_max))
                    return
            raise Unavailable("nobody has it", code="no_blob")

        shelter = Shelter(fetch, slots=slots, evicted=evicted.append, rehearses=rehearses, process=process)
        runner = Runner(blobs, folder / "tasks", [self.executor], self.runtimes, [OWNER], shelter)
        await runner.clean()
        made = Host(blobs, folder, runner, asked=asked, evicted=evicted, code=code or Code(1, 3))
        self.hosts.append(made)
        return made

    def shut(self, host: Host, *commands: str, **env: str) -> JobSpec:
        """A job whose tiny guest stays at a step, further on after each snapshot, until its gate is open."""
        return self.spec(host, *commands, files=GATE, STAYS=str(STAYS), **env)

    def spec(
        self, host: Host, *commands: str, files: Mapping[str, bytes] | None = None, runtime: str = "python", **env: str
    ) -> JobSpec:
        """A job with the tiny guest among its inputs; by default it runs it. Every host has the inputs."""
        inputs = {"tiny.py": TINY, **(files or {})}
        digests = {path: host.blobs.put(data) for path, data in inputs.items()}
        for one, data in itertools.product(self.hosts, inputs.values()):
            one.blobs.put(data)
        return JobSpec(
            name="test",
            runtime=runtime,
            commands=commands or ("python -S $SHOAL_IN/tiny.py",),
            chunks=(Chunk(),),
            files=tuple(FileRef(path, digests[path], len(data)) for path, data in inputs.items()),
            env=tuple(env.items()),
            resources=SMALL,
            timeout=Micros(600_000_000),
        )


def protected(spec: JobSpec, *, epoch: int = 1, resume: Resume | None = None, task: str = "") -> Run:
    """A run under a lease."""
    return Run(task or f"job/0/{epoch}", spec, 0, (), (), OWNER, (ESCROW, 0, epoch), SECRET, resume)


def unprotected(spec: JobSpec) -> Run:
    """A run as an audit does it."""
    return Run("audit/0", spec, 0, (), (), OWNER)


def resume_of(sealed: Sealed, epoch: int = 1) -> Resume:
    """What a steward grants the next provider: the worker holds every data shard."""
    manifest = Snapshot(
        bytes(16), ESCROW, 0, epoch, sealed.number, sealed.step, sealed.progress_ppm, sealed.tier, 0, sealed.size,
        sealed.index_bytes, sealed.packs,
    )  # fmt: skip
    return Resume(manifest, tuple(tuple((index, WORKER) for index in range(pack.k)) for pack in sealed.packs))
