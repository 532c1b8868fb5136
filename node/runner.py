"""From a `Run` to a `RunDone`: choose a sandbox, lay out the inputs, watch time and disk, take the outputs, clean up.

Spec: specs/13-execution.md. The driver has fetched every input into the BlobStore before.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio
from blake3 import blake3
from msgspec import UNSET

from node import outputs
from node.blobs import BlobStore
from node.clock import Clock
from node.executors.door import Door
from node.executors.interface import ISOLATING, TIERS, Executor, Exit, Task
from node.protection import layout
from node.protection.agent import Agent, Protected, Voice
from node.protection.hosting import RESUMED, Live, OnLog, exit_for, host
from node.protection.imaging import Imaging
from node.protection.layout import protected
from node.protection.parking import Parked, Parking
from node.protection.rehearsal import Stage, rehearse
from node.protection.removal import remove
from node.protection.restoring import is_for_program, restore_checkpoint, restore_image, restore_waiting
from node.protection.sealing import Sealer
from node.protection.shelter import Shelter
from node.proving import program
from node.proving.hosting import UnitHost
from node.proving.outcome import Outcome, broken, take
from node.proving.retention import Retention
from node.runtimes import Runtime
from node.volumes.shelf import TreeShelf
from protocol.completions import CutFailed, Guest, RunDone
from protocol.effects import Cut, Run
from protocol.errors import LocalError, Refused, ShoalError, Unavailable
from protocol.jobspec import ZERO_DIGEST, GpuNeed, JobSpec
from protocol.units import SECOND, Digest, PeerId
from storage.erasure import Code

INLINE_FILES_MAX: Final = 8
"""So few links are made faster than a thread is woken."""

DEFAULTS: Final = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
"""Bit-equal results across machines need one thread and one hash seed; a job's own environment may say otherwise."""

Tell = Callable[[Protected], None]
"""Where a protected task's words go: `Guest`, `Sealed` and `CutFailed`."""


def deaf(what: Protected) -> None:
    """Nobody listens."""


class Runner:
    """Runs chunks, several at a time. `executors` are the usable ones; `folder` holds nothing but running tasks;
    without a `shelter` no task is protected by snapshots."""

    def __init__(
        self,
        blobs: BlobStore,
        folder: Path,
        executors: Sequence[Executor],
        runtimes: Mapping[str, Runtime],
        serves: Collection[PeerId] = (),
        shelter: Shelter | None = None,
    ) -> None:
        self._blobs = blobs
        self._folder = folder
        self._executors = sorted(executors, key=lambda executor: TIERS.index(executor.tier))
        self._runtimes = dict(runtimes)
        self._serves = frozenset(serves)
        self._live: dict[str, Live] = {}
        self._shelf = TreeShelf(blobs, folder.parent / "trees")
        self._shelter = shelter
        self.retention = Retention(blobs, folder.parent / "retained")
        """States of runs that may still be audited or disputed."""
        self._parking = Parking(shelter.slots, shelter.evicted) if shelter else Parking(0, lambda task: None)

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers that can be used here, strongest first."""
        return tuple(executor.tier for executor in self._executors)

    async def clean(self) -> None:
        """Remove what an earlier process left: its containers, processes and folders. Call once, at start-up."""
        for executor in self._executors:
            await executor.clean()
        await trio.to_thread.run_sync(remove, self._folder, self._folder.parent)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        self.retention.sweep(Clock().now() / SECOND)

    def choose(self, spec: JobSpec, renter: PeerId, serves: Collection[PeerId] | None = None) -> str:
        """The tier for a job: the strongest that can run it. Refused with code `no_runtime` or `no_executor`."""
        if spec.runtime not in self._runtimes and not spec.runtime.startswith("image:"):
            raise Refused(
                f"this host has no runtime {spec.runtime[:80]!r}",
                code="no_runtime",
                fix=f"Runtimes here: {', '.join(sorted(self._runtimes)) or 'none'}.",
            )
        own = self._serves if serves is None else frozenset(serves)
        reasons = []
        for executor in self._executors:
            reason = executor.refuses(spec)
            if not reason and executor.tier not in ISOLATING and renter not in own:
                reason = "the tier `child` has no isolation and is kept for the owner's own renters"
            if not reason:
                return executor.tier
            reasons.append(f"{executor.tier}: {reason}")
        raise Refused(
            "no sandbox of this host can run the job: " + ("; ".join(reasons) or "none is usable"),
            code="no_executor",
            fix="`shoal node doctor` shows which sandboxes are missing and how to get them.",
        )

    def stop(self, task: str) -> None:
        """End a running task; its `run` returns with reason `stopped`. Unknown or ended already: nothing happens."""
        if live := self._live.get(task):
            live.end("stopped", "stopped by the node")

    def door(self, task: str) -> Door | None:
        """The way into a task under way, None when it does not run here."""
        live = self._live.get(task)
        return live.door if live is not None else None

    def cut(self, order: Cut, tell: Tell = deaf) -> None:
        """Take a snapshot of a running task; `Sealed` or `CutFailed` comes through the `tell` of its `run`, or through
        this one when the task does not run here or is not protected."""
        live = self._live.get(order.task)
        if live is None or live.agent is None:
            tell(CutFailed(order.task, "the task is not protected here" if live else "the task does not run here"))
        else:
            live.agent.cut(hold=order.hold, code=Code(order.k, order.n))

    async def run(self, work: Run, on_log: OnLog, on_start: Callable[[str], None], tell: Tell = deaf) -> RunDone:
        """Execute one chunk to its end. Never raises for what a job does; a cancelled caller leaves nothing behind.

        A protected one (`work.lease`) speaks through `tell`; one that resumes starts from its snapshot, in the sandbox
        that was parked for it if there is one."""
        if work.task in self._live:
            raise LocalError(f"task {work.task} runs already")
        began = trio.current_time()
        parked = self._parking.adopt(work) if self._is_protected(work) else None
        self._parking.make_room(len(self._live) + (0 if parked else 1))
        live = parked.live if parked else Live(on_log, waits=self._restores(work))
        self._live[work.task] = live
        outcome = Outcome(ZERO_DIGEST, 0)
        task: Task | None = parked.task if parked else None
        try:
            if parked:
                ended = await self._go_on(parked, work, on_log, on_start, tell)
            else:
                executor = self._executor(self.choose(work.spec, work.renter))
                task = self._task(work, live.door)
                ended = await self._begin(live, executor, task, work, on_start, tell)
            if task is not None:
                ended = broken(work, task, ended)
                outcome = await self._take(work, task) if ended.reason == "ok" else outcome
        except (Refused, Unavailable) as error:
            ended = exit_for(error)
        finally:
            live.door.close()
            del self._live[work.task]
            with trio.CancelScope(shield=True):
                if parked:
                    live.end("stopped", "stopped by the node")
                    await live.over.wait()
                if task is not None:
                    await trio.to_thread.run_sync(remove, task.folder, self._folder)
        seconds = trio.current_time() - began
        done = RunDone(work.task, ended.reason, ended.code, outcome.output, outcome.size, seconds, ended.detail)
        return replace(done, trace=outcome.trace, begun=live.begun)

    # ── parking ──────────────────────────────────────────────────────────────────────────────────────────────────────
    async def park(self, work: Run, tell: Tell = deaf) -> None:
        """Bring a chunk to its first loop head and keep it waiting there, until a `run` of the same chunk takes it over
        and ends it, or `unpark`. Its inputs are here. What its hook says comes through `tell`."""
        can_wait = not program.has_units(work)  # Its states are read before its first unit.
        if self._shelter is None or not can_wait or not self._parking.has_room(work, len(self._live)):
            tell(Guest(work.task, "disabled", "no slot is free to park it" if can_wait else "it has units", 0))
            return
        live = Live(lambda lines: None, waits=True)
        task: Task | None = None
        parked: Parked | None = None
        try:
            executor = self._executor(self.choose(work.spec, work.renter))
            task = protected(self._task(work, live.door))
            live.agent = Agent(work.task, task, Voice(tell, live.line))
            parked = self._parking.add(work, live, task, executor)
            await self._lay_out(work, task, executor.protects_inputs)
            await parked.host()
        except ShoalError as error:
            tell(Guest(work.task, "disabled", error.detail, 0))
        finally:
            live.over.set()
            if parked:
                self._parking.forget(parked)
            if task is not None and not (parked and parked.is_adopted):
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(remove, task.folder, self._folder)

    def unpark(self, task: str) -> None:
        """Give up what was parked under this name. Unknown, or taken over meanwhile: nothing happens."""
        self._parking.give_up(task)

    async def _go_on(
        self, parked: Parked, work: Run, on_log: OnLog, on_start: Callable[[str], None], tell: Tell
    ) -> Exit:
        """Let a parked task be the run of a chunk."""
        assert self._shelter is not None
        live = parked.live
        live.on_log = on_log
        self._own(live, parked.executor, parked.task, work, tell)
        live.released.set()
        on_start(parked.executor.tier)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(restore_waiting, live, work, parked.task, self._blobs, self._shelter)
            await live.over.wait()
            nursery.cancel_scope.cancel()
        return live.exit

    # ── one task ─────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _take(self, work: Run, task: Task) -> Outcome:
        """Everything that a finished task left becomes blobs. Refused when it is unfit."""
        await self._shelf.pack(work.spec, task)
        return await take(work, task, self._blobs, self.retention)

    async def _begin(
        self, live: Live, executor: Executor, task: Task, work: Run, on_start: Callable[[str], None], tell: Tell
    ) -> Exit:
        """Lay a task out and run it."""
        live.released.set()
        shelter = self._shelter
        if shelter is None or not self._is_protected(work):
            await self._lay_out(work, task, executor.protects_inputs)
            return await host(live, executor, task, on_start)
        if program.has_units(work):
            await self._lay_out(work, task, executor.protects_inputs)
            return await UnitHost(live, executor, task, work, self._blobs, shelter).run(on_start, tell)
        task = protected(task)
        await self._lay_out(work, task, executor.protects_inputs)
        live.agent = Agent(work.task, task, Voice(tell, live.line))
        with live.preparing:
            if work.resume is not None and work.resume.manifest.tier == "process":
                await restore_image(live, work, task, self._blobs, shelter)
            if is_for_program(work) and await restore_checkpoint(live, work, task, self._blobs, shelter):
                task = replace(task, env={**task.env, **RESUMED})
        self._own(live, executor, task, work, tell)
        async with trio.open_nursery() as nursery:
            if live.waits:
                nursery.start_soon(restore_waiting, live, work, task, self._blobs, shelter)
            ended = await host(live, executor, task, on_start)
            nursery.cancel_scope.cancel()
        return ended

    def _own(self, live: Live, executor: Executor, task: Task, work: Run, tell: Tell) -> None:
        """Under a lease from now on: its snapshots are sealed with the lease's secret."""
        assert live.agent is not None and work.lease is not None and self._shelter is not None
        shelter = self._shelter
        sealer = Sealer(self._blobs, work.lease, work.secret, shelter.erasure)
        sealer.on_phase = shelter.on_phase

        async def prepare() -> Task:
            shadow = self._shadow(work)
            await self._lay_out(work, shadow, executor.protects_inputs)
            return shadow

        stage = Stage(executor, prepare, task, work.secret, self._blobs, shelter.erasure)
        if shelter.process is not None:
            live.agent.imaging = Imaging(shelter.process, task, executor.tier, work.lease)
        live.agent.begin(
            work.task, Voice(tell, live.line), sealer, partial(rehearse, stage) if shelter.rehearses else None
        )

    def _is_protected(self, work: Run) -> bool:
        """Audits have no lease: they run without a hook."""
        is_wanted = work.spec.protection.is_on and work.spec.can_be_saved(work.chunk)
        writes = any(ref.is_writable for ref in work.spec.mounts)  # What lies in a volume is in no snapshot.
        return is_wanted and not writes and work.lease is not None and bool(work.secret) and self._shelter is not None

    def _restores(self, work: Run) -> bool:
        """Whether it starts waiting for a snapshot of its memory."""
        if work.resume is None or program.has_units(work):
            return False
        return self._is_protected(work) and work.resume.manifest.tier == "framework"

    def _executor(self, tier: str) -> Executor:
        return next(executor for executor in self._executors if executor.tier == tier)

    def _shadow(self, work: Run) -> Task:
        """The same task beside itself, for a rehearsal: on the CPU, at the lowest priority."""
        task = protected(self._task(replace(work, task=f"{work.task}/shadow"), Door()))
        resources = msgspec.structs.replace(task.resources, gpu=GpuNeed())
        return replace(task, is_shadow=True, resources=resources, env={**task.env, "CUDA_VISIBLE_DEVICES": ""})

    def _task(self, work: Run, door: Door) -> Task:
        spec = work.spec
        is_reduce = work.chunk >= len(spec.chunks)
        env = {**DEFAULTS, **dict(spec.env)}
        if not is_reduce:
            env.update(spec.chunks[work.chunk].env)
        env.update(SHOAL_CHUNK=str(work.chunk), SHOAL_CHUNKS=str(len(spec.chunks)))
        folder = self._folder / f"t-{blake3(work.task.encode()).hexdigest(12)}"
        is_shared = not spec.mounts or self._executor(self.choose(spec, work.renter)).protects_inputs
        task = Task(
            name=work.task,
            folder=folder,
            volumes=self._shelf.mounts(spec, folder, is_shared),
            runtime=self._runtimes.get(spec.runtime),
            image=spec.runtime.removeprefix("image:") if spec.runtime.startswith("image:") else "",
            commands=spec.reduce if is_reduce else spec.commands,
            env=env,
            inputs={file.path: Digest(file.digest) for file in spec.files},
            resources=spec.resources,
            timeout_s=spec.timeout / 1_000_000,
            fuel=spec.fuel,
            door=door,
        )
        return program.prepare(work, task)

    async def _lay_out(self, work: Run, task: Task, may_link: bool) -> None:
        """Folders, programs and input files of a task. Refused (`inputs`) or Unavailable when one cannot be there."""
        wanted = [
            (outputs.input_path(file.path), self._blobs.path(Digest(file.digest)), file.executable)
            for file in work.spec.files
        ]
        for index, digest in enumerate(work.outputs):
            manifest = program.manifest(self._blobs, digest)
            for file in manifest.files:
                path = outputs.input_path(f"chunks/{index}/{file.path}")
                wanted.append((path, self._blobs.path(Digest(file.digest)), False))
        try:
            if (
                may_link
                and len(wanted) <= INLINE_FILES_MAX
                and not task.is_protected
                and not any(x for *_, x in wanted)
            ):
                _make_folders(task, wanted, may_link)
            else:
                await trio.to_thread.run_sync(_make_folders, task, wanted, may_link)
        except OSError as error:
            raise Refused(f"the inputs cannot be laid out: {error}", code="inputs") from error
        await self._shelf.lay_out(work.spec, task)
        if work.spec.proof is not UNSET:
            await trio.to_thread.run_sync(program.lay_out, work, task, self._blobs, may_link)


def _make_folders(task: Task, wanted: Sequence[tuple[Path, Path, bool]], may_link: bool) -> None:
    for name in ("", "in", "out", "run", "run/bin"):
        folder = task.folder / name
        folder.mkdir()
        folder.chmod(0o755)
    if task.is_protected:
        layout.make(task)
    (task.folder / "run" / "passwd").write_text("root:x:0:0::/:/bin/false\njob:x:1000:1000::/tmp:/bin/sh\n")
    (task.folder / "run" / "group").write_text("root:x:0:\njob:x:1000:\n")
    runtime = task.runtime
    if runtime and runtime.interpreter and runtime.prefix == runtime.base_prefix:  # A venv works only by its own path.
        for name in ("python", "python3"):
            (task.folder / "run" / "bin" / name).symlink_to(runtime.interpreter)
    for path, source, is_executable in wanted:
        target = task.inside / path
        _make_parents(task.inside, target.parent)
        if may_link and not is_executable and _is_linked(source, target):
            continue
        shutil.copyfile(source, target)
        target.chmod(0o555 if is_executable else 0o444)


def _make_parents(root: Path, folder: Path) -> None:
    if folder != root and not folder.is_dir():
        _make_parents(root, folder.parent)
        folder.mkdir()
        folder.chmod(0o755)


def _is_linked(source: Path, target: Path) -> bool:
    """True when `target` is now a second name of a blob that everybody may read and nobody may write."""
    if stat.S_IMODE(source.stat().st_mode) != 0o444:
        return False
    try:
        os.link(source, target)
    except OSError:
        return False
    return True
