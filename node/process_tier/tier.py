"""The tier of process images: any program, unchanged, where this host has proved that it works; never assumed.

A dump is one atomic folder: everything stands still, CRIU writes the processes, the job's folders are copied, all of
it goes on; then the folder is signed. A failed dump leaves the job running. A failed restore is final for that attempt:
whatever came up is killed and the caller takes another tier. Spec: specs/30-process-tier.md.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import trio

from node.executors.interface import Exit, OnLine, Task
from node.executors.process import descendants
from node.process_tier import bwrap_way, criu, folders, freezer, images, probe, scene
from node.process_tier.criu import Criu
from node.process_tier.cuda import CudaCheckpoint
from node.process_tier.folders import Entry
from node.process_tier.freezer import Freezer
from node.process_tier.images import IMAGES, WORK, ProcessImage, Verified
from node.process_tier.probe import Probe
from node.process_tier.runc_way import RuncWay
from node.process_tier.scene import Handle, Scene
from protocol.errors import Refused, Unavailable
from protocol.identity import Identity
from protocol.units import MIB, PeerId

DUMP_SECONDS: Final = 10.0
"""A small job takes a tenth of a second; what takes longer stops the job for longer than a snapshot is worth."""

DUMP_BYTES_PER_SECOND: Final = 50 * MIB
"""What a slow disk writes: so much more time for what the job holds."""

RESTORE_SECONDS: Final = 60.0
"""As long: beyond this another tier is the quicker way back."""

ROOM_FACTOR: Final = 1.5
"""Free disk that a dump wants, in sizes of the job: its images, and the copy of its files."""

ROOM_BYTES_MIN: Final = 64 * MIB
"""For tables, logs and the images of what is no memory."""

TIERS: Final = ("runc", "bwrap")
"""Where processes are dumped. `child` has no sandbox to restore into, Docker's engine no working checkpoint."""

Phase = Literal["look", "freeze", "dump", "copy", "thaw", "sign", "verify", "lay_out", "restore", "run"]
PHASES: Final[tuple[Phase, ...]] = (
    "look", "freeze", "dump", "copy", "thaw", "sign", "verify", "lay_out", "restore", "run",
)  # fmt: skip
"""The first six are a dump's, the others a restore's."""


@dataclass(frozen=True, slots=True)
class Dumped:
    """A finished snapshot. `parts` is its folder; `stall_us` how long the job stood still."""

    size: int
    stall_us: int
    parts: Path


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the executors of this node keep things: the same label and images folder as in `ladder.ladder`."""

    label: str
    images: Path


class ProcessTier:
    """Dump and restore. `probed` comes from `probe.load_or_probe`; `cuda` is given only where `cuda.why_not` is empty.

    `trusted` are other nodes whose images are restored here: those of the same owner. An image can ask for any right
    that CRIU has, so a stranger's image would be a stranger's program running as root."""

    def __init__(
        self,
        probed: Probe,
        bench: Bench,
        identity: Identity,
        network: str,
        cuda: CudaCheckpoint | None = None,
        trusted: Collection[PeerId] = (),
        on_phase: Callable[[Phase], None] = lambda _: None,
    ) -> None:
        self._program = Criu(Path(probed.program), probed.criu) if probed.program else None
        self._probed = probed
        self._trusted = frozenset({identity.peer, *trusted})
        self._bench = bench
        self._identity = identity
        self._network = network
        self._cuda = cuda
        self._on_phase = on_phase

    @property
    def hands_over(self) -> bool:
        """Whether the owner has named other nodes: those restore what is dumped here."""
        return len(self._trusted) > 1

    def why_not(self) -> str:
        """Empty when this host can take and restore process snapshots; otherwise the cause, for the owner."""
        return self._probed.why_not or freezer.why_not() or probe.why_not_try(self._program)

    def can(self, task: Task, tier: str) -> str:
        """Empty when this task can be dumped; otherwise the reason, for the renter."""
        if cause := self.why_not():
            return cause
        if tier not in TIERS:
            return f"processes in the tier {tier} cannot be dumped"
        if task.resources.gpu.count and (self._cuda is None or tier != "bwrap"):
            return "the job uses a GPU, and cuda-checkpoint does not work here"
        return "" if task.runtime is not None else "jobs from an image cannot be dumped"

    async def clean(self) -> None:
        """Set going and remove what an earlier process of this node left standing still. Before the executors'."""
        await freezer.clean(self._bench.label)

    async def dump(self, handle: Handle, folder: Path) -> Dumped:
        """Write a snapshot of a running job to `folder`, which is there only when it is whole.

        Unavailable or Refused: there is none, and the job runs on. Cancelled: the same."""
        program = self._needed(self.can(handle.task, handle.tier))
        part = folder.with_name(f"{folder.name}.part")
        try:
            await trio.to_thread.run_sync(shutil.rmtree, part, True)
            (part / IMAGES).mkdir(parents=True)
            self._on_phase("look")
            stall, entries, seen = await self._take(program, handle, part)
            self._on_phase("sign")
            image = self._image(handle, seen, program)
            size = await trio.to_thread.run_sync(self._sign, part, image, entries)
            part.rename(folder)
            return Dumped(size, stall, folder)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(shutil.rmtree, part, True)

    async def restore(
        self,
        folder: Path,
        task: Task,
        signer: PeerId,
        on_line: OnLine = lambda _: None,
        on_start: Callable[[], None] = lambda: None,
    ) -> Exit:
        """Bring a job back from `folder` in a new sandbox and follow it to its end, like an executor's `run`.

        `task` is laid out as for a start, with empty shared folders. Unavailable, Refused, RemoteViolation: nothing ran
        (`on_start` was never called), and nothing is left; the attempt is over. Cancelled: everything is killed."""
        self._needed(self.why_not())
        self._on_phase("verify")
        if signer not in self._trusted:
            raise Refused("process images of a node that is not the owner's own", code="untrusted_signer")
        verified = await trio.to_thread.run_sync(images.verify, folder, signer, self._network)
        program = self._needed(self.can(task, verified.image.tier))
        runtime = task.runtime.digest if task.runtime else b""
        if cause := images.fits(verified.image, program.version, runtime):
            raise Unavailable(cause, code="no_fit")
        if task.name != verified.image.task:
            raise Refused(f"the image is of the task {verified.image.task[:80]!r}", code="bad_image")
        cpu = [str(program.path), "cpuinfo", "check", "-D", str(folder / IMAGES)]
        code, text = await criu.run(cpu, probe.CHECK_SECONDS, folder=folder)
        if code:
            raise Unavailable(f"this processor lacks what the job uses: {text.strip()[-200:]}", code="no_fit")
        self._on_phase("lay_out")
        await trio.to_thread.run_sync(self._lay_out, verified, task)
        self._on_phase("restore")
        return await self._run(program, verified, task, on_line, on_start)

    async def _run(
        self, program: Criu, verified: Verified, task: Task, on_line: OnLine, on_start: Callable[[], None]
    ) -> Exit:
        failed: list[Unavailable] = []
        ended = Exit("sandbox", 0, "the restore was given up")
        async with trio.open_nursery() as nursery:

            async def resume_gpu(cuda: CudaCheckpoint) -> None:
                try:
                    pids = descendants(task.life.first() or 0)
                    await cuda.resume([pid for pid in pids if await cuda.state(pid) == "checkpointed"])
                except Unavailable as unavailable:
                    failed.append(unavailable)
                    nursery.cancel_scope.cancel()

            def started() -> None:
                self._on_phase("run")
                on_start()
                if self._cuda is not None:
                    nursery.start_soon(resume_gpu, self._cuda)

            try:
                if verified.image.tier == "runc":
                    way = RuncWay(program, self._bench.label, self._bench.images)
                    ended = await way.run(verified, task, on_line, started, RESTORE_SECONDS)
                else:
                    room = (self._bench.label, RESTORE_SECONDS)
                    ended = await bwrap_way.run(program, verified, task, (on_line, started), room)
            except Unavailable as unavailable:
                failed.append(unavailable)
            nursery.cancel_scope.cancel()
        if failed:
            raise failed[0]
        return ended

    async def _take(self, program: Criu, handle: Handle, part: Path) -> tuple[int, tuple[Entry, ...], Scene]:
        """(µs that the job stood still, the table of its copied folders, what was dumped)."""
        seen = scene.look(handle)
        room = shutil.disk_usage(part).free
        if room < (wanted := int(seen.memory_bytes * ROOM_FACTOR) + ROOM_BYTES_MIN):
            raise Unavailable(f"a dump wants {wanted} bytes of disk, {room} are free", code="no_room")
        cpu = [str(program.path), "cpuinfo", "dump", "-D", str(part / IMAGES)]
        await criu.run(cpu, probe.CHECK_SECONDS, folder=part)
        users: tuple[int, ...] = ()
        try:
            if self._cuda is not None and handle.task.resources.gpu.count:
                users = await self._cuda.suspend(descendants(seen.first))
            self._on_phase("freeze")
            began = trio.current_time()
            async with self._still(program, handle, seen) as (way, held):
                seconds = DUMP_SECONDS + seen.memory_bytes / DUMP_BYTES_PER_SECOND
                self._on_phase("dump")
                if held is None:
                    await way.dump(seen, handle.task, part, seconds)
                else:
                    await bwrap_way.dump(program, seen, held, part, seconds)
                self._on_phase("copy")
                entries = await trio.to_thread.run_sync(_copy, handle, seen, part)
                self._on_phase("thaw")
        finally:
            if users and self._cuda is not None:
                with trio.CancelScope(shield=True):
                    await self._cuda.resume(users)
        return int((trio.current_time() - began) * 1_000_000), entries, seen

    @asynccontextmanager
    async def _still(self, program: Criu, handle: Handle, seen: Scene) -> AsyncIterator[tuple[RuncWay, Freezer | None]]:
        way = RuncWay(program, self._bench.label, self._bench.images)
        if handle.tier == "runc":
            async with way.paused(handle.task):
                yield way, None
        else:
            async with freezer.frozen(seen.first, f"{self._bench.label}-{handle.task.folder.name}") as held:
                yield way, held

    def _image(self, handle: Handle, seen: Scene, program: Criu) -> ProcessImage:
        runtime = handle.task.runtime
        return ProcessImage(
            task=handle.task.name,
            tier="runc" if handle.tier == "runc" else "bwrap",
            criu=program.version,
            machine=platform.machine(),
            runtime=bytes(runtime.digest) if runtime else bytes(32),
            uid=seen.uid,
            outer=seen.outer,
            table=bytes(32),
            size=0,
        )

    def _sign(self, part: Path, image: ProcessImage, entries: tuple[Entry, ...]) -> int:
        shutil.rmtree(part / WORK, ignore_errors=True)
        table = (*images.image_entries(part), *folders.digests(entries, part))
        images.write(part, image, table, self._identity, self._network)
        return sum(entry.size for entry in table)

    def _lay_out(self, verified: Verified, task: Task) -> None:
        names = [target.lstrip("/") for _, target in task.shared]
        shared = tuple(entry for entry in verified.entries if entry.path.split("/")[0] in names)
        if any(path.name not in names or any(path.iterdir()) for path, _ in task.shared):
            raise Refused("the task's shared folders are not empty", code="not_empty")
        folders.lay_out(shared, verified.folder, task.folder, verified.image.uid)

    def _needed(self, cause: str) -> Criu:
        if cause or self._program is None:
            raise Unavailable(cause or "CRIU is gone", code="no_process_tier")
        return self._program


def _copy(handle: Handle, seen: Scene, part: Path) -> tuple[Entry, ...]:
    """The job's writable folders; a container's in-memory ones are part of its images."""
    sources = bwrap_way.sources(handle.task, seen.first)
    if handle.tier == "runc":
        sources = {name: path for name, path in sources.items() if name not in bwrap_way.MEMORY_FOLDERS}
    resources = handle.task.resources
    return folders.copy(sources, part, resources.disk_bytes + resources.memory_bytes)
