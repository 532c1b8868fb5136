"""From a `Run` to a `RunDone`: choose a sandbox, lay out the inputs, watch time and disk, take the outputs, clean up.

Spec: specs/13-execution.md. The driver has fetched every input into the BlobStore before.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio
from blake3 import blake3

from node import outputs
from node.blobs import BlobStore
from node.executors.door import Door
from node.executors.interface import ISOLATING, TIERS, Executor, Exit, Task
from node.runtimes import Runtime
from protocol import wire
from protocol.completions import RunDone
from protocol.effects import Run
from protocol.errors import LocalError, Refused, Unavailable
from protocol.jobspec import ZERO_DIGEST, JobSpec, Manifest
from protocol.units import MIB, Digest, PeerId

MANIFEST_BYTES_MAX: Final = 4 * MIB
"""FILES_MAX entries with the longest paths fit."""

LOG_BATCH_LINES: Final = 64
"""Lines handed out at once, the bound of `messages.LogLines`."""

LOG_BATCH_SECONDS: Final = 0.1
"""A line is shown after at most this long; batches keep a chatty job from flooding the node."""

INLINE_FILES_MAX: Final = 8
"""So few links are made faster than a thread is woken."""

DISK_WATCH_SECONDS: Final = 0.25
"""How often a task's folder is measured: bounds what a job can write beyond its limit before it is stopped."""

DEFAULTS: Final = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
"""Bit-equal results across machines need one thread and one hash seed; a job's own environment may say otherwise."""

_decoder: Final = wire.decoder(Manifest)
_NOBODY: Final = PeerId(bytes(32))


@dataclass(slots=True)
class _Live:
    """A task under way."""

    scope: trio.CancelScope
    door: Door = field(default_factory=Door)
    ended_by: str = ""
    detail: str = ""

    def end(self, reason: str, detail: str) -> None:
        """The first reason stays."""
        if not self.ended_by:
            self.ended_by, self.detail = reason, detail
            self.scope.cancel()


class Runner:
    """Runs chunks, several at a time. `executors` are the usable ones; `folder` holds nothing but running tasks."""

    def __init__(
        self,
        blobs: BlobStore,
        folder: Path,
        executors: Sequence[Executor],
        runtimes: Mapping[str, Runtime],
        serves: Collection[PeerId] = (),
    ) -> None:
        self._blobs = blobs
        self._folder = folder
        self._executors = sorted(executors, key=lambda executor: TIERS.index(executor.tier))
        self._runtimes = dict(runtimes)
        self._serves = frozenset(serves)
        self._live: dict[str, _Live] = {}

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers that can be used here, strongest first."""
        return tuple(executor.tier for executor in self._executors)

    async def clean(self) -> None:
        """Remove what an earlier process left: its containers, processes and folders. Call once, at start-up."""
        for executor in self._executors:
            await executor.clean()
        await trio.to_thread.run_sync(_remove, self._folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)

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

    async def run(
        self, work: Run, on_log: Callable[[tuple[str, ...]], None], on_start: Callable[[str], None]
    ) -> RunDone:
        """Execute one chunk to its end. Never raises for what a job does; a cancelled caller leaves nothing behind."""
        if work.task in self._live:
            raise LocalError(f"task {work.task} runs already")
        began = trio.current_time()
        live = _Live(trio.CancelScope())
        self._live[work.task] = live
        folder = self._folder / f"t-{blake3(work.task.encode()).hexdigest(12)}"
        output, size = ZERO_DIGEST, 0
        try:
            executor = self._executor(self.choose(work.spec, work.renter))
            task = self._task(work, folder, live.door)
            await self._lay_out(work, task, executor.protects_inputs)
            ended = await self._execute(live, executor, task, on_log, on_start)
            if ended.reason == "ok":
                output, size = await outputs.collect(task.outside, self._blobs, work.spec.resources.disk_bytes)
        except Refused as refusal:
            ended = Exit(_reason(refusal.code), 0, f"{refusal.detail}. {refusal.fix}".strip())
        except Unavailable as missing:
            ended = Exit("inputs", 0, missing.detail)
        finally:
            live.door.close()
            del self._live[work.task]
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_remove, folder)
        seconds = trio.current_time() - began
        return RunDone(work.task, ended.reason, ended.code, output, size, seconds, ended.detail)

    def _executor(self, tier: str) -> Executor:
        return next(executor for executor in self._executors if executor.tier == tier)

    async def _execute(
        self,
        live: _Live,
        executor: Executor,
        task: Task,
        on_log: Callable[[tuple[str, ...]], None],
        on_start: Callable[[str], None],
    ) -> Exit:
        lines: list[str] = []

        def flush() -> None:
            while lines:
                batch = tuple(lines[:LOG_BATCH_LINES])
                del lines[:LOG_BATCH_LINES]
                on_log(batch)

        def on_line(line: str) -> None:
            lines.append(line)
            if len(lines) >= LOG_BATCH_LINES:
                flush()

        async def flush_often() -> None:
            while True:
                await trio.sleep(LOG_BATCH_SECONDS)
                flush()

        ended = Exit("stopped", -9)
        with live.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flush_often)
                nursery.start_soon(_watch_disk, live, task)
                nursery.start_soon(_watch_time, live, task)
                on_start(executor.tier)
                ended = await executor.run(task, on_line)
                nursery.cancel_scope.cancel()
        flush()
        if live.ended_by and ended.reason != "ok":
            return Exit(live.ended_by, ended.code, live.detail)
        return ended

    def _task(self, work: Run, folder: Path, door: Door) -> Task:
        spec = work.spec
        is_reduce = work.chunk >= len(spec.chunks)
        env = {**DEFAULTS, **dict(spec.env)}
        if not is_reduce:
            env.update(spec.chunks[work.chunk].env)
        env.update(SHOAL_CHUNK=str(work.chunk), SHOAL_CHUNKS=str(len(spec.chunks)))
        return Task(
            name=work.task,
            folder=folder,
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

    async def _lay_out(self, work: Run, task: Task, may_link: bool) -> None:
        """Folders, programs and input files of a task. Refused (`inputs`) or Unavailable when one cannot be there."""
        wanted = [
            (outputs.input_path(file.path), self._blobs.path(Digest(file.digest)), file.executable)
            for file in work.spec.files
        ]
        for index, digest in enumerate(work.outputs):
            manifest = wire.decode(self._blobs.read(digest, MANIFEST_BYTES_MAX), _decoder, _NOBODY, MANIFEST_BYTES_MAX)
            for file in manifest.files:
                path = outputs.input_path(f"chunks/{index}/{file.path}")
                wanted.append((path, self._blobs.path(Digest(file.digest)), False))
        try:
            if may_link and len(wanted) <= INLINE_FILES_MAX and not any(is_program for *_, is_program in wanted):
                _make_folders(task, wanted, may_link)
            else:
                await trio.to_thread.run_sync(_make_folders, task, wanted, may_link)
        except OSError as error:
            raise Refused(f"the inputs cannot be laid out: {error}", code="inputs") from error


async def _watch_time(live: _Live, task: Task) -> None:
    await trio.sleep(task.timeout_s)
    live.end("timeout", f"the job ran longer than its {task.timeout_s:g} s")


async def _watch_disk(live: _Live, task: Task) -> None:
    bytes_max = task.resources.disk_bytes
    while True:
        await trio.sleep(DISK_WATCH_SECONDS)
        used = entries = 0
        for name in ("out", "tmp"):
            more, count = await trio.to_thread.run_sync(outputs.usage, task.folder / name)
            used, entries = used + more, entries + count
        if used > bytes_max or entries > outputs.ENTRIES_MAX:
            live.end("disk", f"the job wrote {used} bytes in {entries} files, {bytes_max} bytes are its limit")


def _reason(code: str) -> str:
    """The `RunDone` reason of a refusal."""
    return {"inputs": "inputs", "disk": "disk", "output": "exit"}.get(code, "sandbox")


def _make_folders(task: Task, wanted: Sequence[tuple[Path, Path, bool]], may_link: bool) -> None:
    for name in ("", "in", "out", "run", "run/bin"):
        folder = task.folder / name
        folder.mkdir()
        folder.chmod(0o755)
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


def _remove(folder: Path) -> None:
    """Delete a folder, whatever rights a job left on what is in it."""
    if not folder.exists():
        return
    for root, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(root) / name
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder)
