"""One task in its sandbox, from start to end: log, time and disk are watched; a protected one is cut, restored, parked
and, after a crash, started once more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import trio

from node import outputs
from node.executors.door import Door
from node.executors.interface import Executor, Exit, Task
from node.protection import layout
from node.protection.agent import Agent
from node.protection.application import EXIT_SAVED
from node.protection.guest_link import GO_FROM_BEGINNING, GO_RESTORE, POLL_SECONDS, GuestLink, Words
from node.protection.muting import HeldLines
from protocol.completions import Recovering
from protocol.errors import Refused, ShoalError, Unavailable

LOG_BATCH_LINES: Final = 64
"""Lines handed out at once, the bound of `messages.LogLines`."""

LOG_BATCH_SECONDS: Final = 0.1
"""A line is shown after at most this long; batches keep a chatty job from flooding the node."""

DISK_WATCH_SECONDS: Final = 0.25
"""How often a task's folder is measured: bounds what a job can write beyond its limit before it is stopped."""

DROPS_MAX: Final = 3
"""Times that a job's overfull snapshot folder is emptied before the job is stopped for it."""

SILENT_SECONDS: Final = 60.0
"""A program whose hook has not spoken after a minute has none: its lines are shown."""

RESUMED: Final[Mapping[str, str]] = MappingProxyType({"SHOAL_RESUME": "1"})
"""What a program that saves itself is told when there is something to go on from."""

SHARED: Final = ("snap", "out", "checkpoint")
"""The job's own folders, all of which an image brings along."""

_DECIDED: Final = ("restored", "running", "disabled", "ended")

OnLog = Callable[[tuple[str, ...]], None]


@dataclass(slots=True)
class Live:
    """A task under way, parked or running."""

    on_log: OnLog
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    preparing: trio.CancelScope = field(default_factory=trio.CancelScope)
    """What happens before the sandbox is built, and may take long."""
    door: Door = field(default_factory=Door)
    agent: Agent | None = None
    waits: bool = False
    """Whether it waits at its first loop head, until it is told how to go on."""
    image: Path | None = None
    """The image of its processes that its next start goes on from."""
    begun: int = 0
    """Of a job with units: the unit at which it goes on from a snapshot."""
    restores: str | None = None
    """The snapshot that it was told to restore, in the words of its log, until it is known what became of it."""
    link: GuestLink | None = None
    linked: trio.Event = field(default_factory=trio.Event)
    """Set once there is a link: the sandbox is about to start."""
    ended_by: str = ""
    detail: str = ""
    released: trio.Event = field(default_factory=trio.Event)
    """Set when it is somebody's run, and no longer parked: its time runs."""
    over: trio.Event = field(default_factory=trio.Event)
    exit: Exit = field(default_factory=lambda: Exit("stopped", -9))
    notes: list[str] = field(default_factory=list)
    """What the end of the run shall tell besides its reason."""
    lines: list[str] = field(default_factory=list)
    held: HeldLines = field(init=False)
    """Through which its own lines pass."""

    def __post_init__(self) -> None:
        self.held = HeldLines(self.line, is_holding=self.waits)

    def end(self, reason: str, detail: str) -> None:
        """The first reason stays."""
        if not self.ended_by:
            self.ended_by, self.detail = reason, detail
            self.scope.cancel()
            self.preparing.cancel()

    def line(self, text: str) -> None:
        """A line for the job's log."""
        self.lines.append(text)
        if len(self.lines) >= LOG_BATCH_LINES:
            self.flush()

    def flush(self) -> None:
        """Hand out what there is."""
        while self.lines:
            batch = tuple(self.lines[:LOG_BATCH_LINES])
            del self.lines[:LOG_BATCH_LINES]
            self.on_log(batch)


async def host(live: Live, executor: Executor, task: Task, on_start: Callable[[str], None]) -> Exit:
    """Run a laid-out task to its end. Never raises for what a job does."""
    with live.scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_flush_often, live)
            nursery.start_soon(_watch_disk, live, task)
            nursery.start_soon(_watch_time, live, task)
            if live.agent:
                nursery.start_soon(live.agent.run)
            on_start(executor.tier)
            live.exit = await _starts(live, executor, task)
            nursery.cancel_scope.cancel()
    live.held.show()
    live.flush()
    if live.ended_by and live.exit.reason != "ok":
        live.exit = Exit(live.ended_by, live.exit.code, live.detail)
    if live.notes:
        detail = "; ".join([live.exit.detail, *live.notes] if live.exit.detail else live.notes)
        live.exit = Exit(live.exit.reason, live.exit.code, detail)
    return live.exit


async def _starts(live: Live, executor: Executor, task: Task) -> Exit:
    """The first start, and those after a crash."""
    agent = live.agent
    if agent is None or not agent.has_board:
        return await _sandboxed(executor, task, live)
    ended = await _start(live, executor, task, live.waits)
    while cause := "" if live.ended_by else agent.restart(ended):
        live.notes.append(f"started again in place after {cause}")
        live.line(f"shoal: the program crashed ({cause}); it is started again from its newest snapshot on this host")
        if agent.imaging is not None and agent.imaging.kept.is_dir():
            await trio.to_thread.run_sync(layout.renew, task, SHARED)
            live.image = agent.imaging.kept
            ended = await _start(live, executor, task, False)
            continue
        live.held.hold()
        is_framework = await trio.to_thread.run_sync(_lay_again, task)
        if not is_framework:
            task = replace(task, env={**task.env, **RESUMED})
        ended = await _start(live, executor, task, is_framework, is_framework)
    if ended.code == EXIT_SAVED and agent.is_leaving:
        await agent.settle()
        return Exit("stopped", ended.code, f"the program saved its state and left (exit {EXIT_SAVED}), as it was asked")
    return ended


async def _start(live: Live, executor: Executor, task: Task, waits: bool, restores: bool = False) -> Exit:
    assert live.agent is not None
    if live.image is not None and (ended := await _from_image(live, task)) is not None:
        return ended
    with ExitStack() as stack:
        link = stack.enter_context(GuestLink(task.folder / "snap", is_parked=waits))
        live.link = link
        live.linked.set()
        live.agent.attach(link)
        stack.callback(live.agent.detach)
        async with trio.open_nursery() as nursery:
            if restores:
                nursery.start_soon(let_restore, live, "")
            else:
                nursery.start_soon(_give_up_holding, live, link)
            ended = await _sandboxed(executor, task, live)
            if live.restores is not None and (words := link.read()).has_gone_on:
                _goes_on(live, live.restores, words)  # It did all of its rest between two looks at its board.
            nursery.cancel_scope.cancel()
        return ended


async def _from_image(live: Live, task: Task) -> Exit | None:
    """Bring the processes of an image back and follow them to their end; None where the job begins at its beginning."""
    agent, folder, live.image = live.agent, live.image, None
    assert agent is not None and agent.imaging is not None and folder is not None
    with ExitStack() as stack:
        link = stack.enter_context(GuestLink(agent.imaging.silent))

        def started() -> None:
            live.line("shoal: goes on from an image of its processes")
            agent.attach(link)
            stack.callback(agent.detach)
            agent.voice.tell(Recovering(agent.name, "restored"))

        try:
            return await agent.imaging.bring_back(folder, task, live.held.line, started)
        except (ShoalError, OSError) as error:
            cause = error.detail if isinstance(error, ShoalError) else f"the node's disk failed ({error.strerror})"
            begin_again(live, f"the image of its processes could not be restored: {cause}")
    await trio.to_thread.run_sync(layout.renew, task, SHARED)
    return None


async def _sandboxed(executor: Executor, task: Task, live: Live) -> Exit:
    """A sandbox that cannot be built is an end like another; as an error it would come out of a nursery as a group."""
    try:
        return await executor.run(task, live.held.line)
    except (Refused, Unavailable) as error:
        return exit_for(error)


def exit_for(error: Refused | Unavailable) -> Exit:
    """How a task ends that could not be run, or whose output could not be taken."""
    if isinstance(error, Unavailable):
        return Exit("inputs", 0, error.detail)
    reason = {"inputs": "inputs", "disk": "disk", "output": "exit"}.get(error.code, "sandbox")
    return Exit(reason, 0, f"{error.detail}. {error.fix}".strip())


async def let_restore(live: Live, what: str) -> None:
    """Tell a task to restore what was handed in, once it waits, and say in its log what becomes of it."""
    link = live.link
    assert link is not None
    words = await link.wait_state(("parked", *_DECIDED), float("inf"))
    if words is not None and words.state == "parked":
        for _ in range(2):  # What it said before it waited is in the pipe: a node that was held up reads it in between.
            await trio.sleep(POLL_SECONDS / 2)
        live.held.fence()
        live.restores = what
        link.release(GO_RESTORE)
        words = await link.wait_state(_DECIDED, float("inf"))
    if words is not None and words.has_gone_on:
        _goes_on(live, what, words)
        return
    cause = words.text if words and words.text else "its hook did not restore it"
    begin_again(live, f"{what.removeprefix(' from ') or 'the snapshot'} could not be restored: {cause}")


def _goes_on(live: Live, what: str, words: Words) -> None:
    live.restores = None
    live.line(f"shoal: goes on{what} at step {words.get('restored_step')}")
    live.held.drop()


def begin_again(live: Live, why: str) -> None:
    """A snapshot was of no use: the job begins at its beginning, and its log says why."""
    live.restores = None
    live.held.show()
    live.line(f"shoal: {why}; starting from the beginning")
    if live.link is not None:
        live.link.release(GO_FROM_BEGINNING)


def _lay_again(task: Task) -> bool:
    """Prepare the folders for another start; False where only the program's own checkpoints are there."""
    layout.renew(task)
    kept = task.folder / "kept"
    if not kept.is_dir():
        return False
    try:
        layout.let_read(kept)
        layout.hand_in(task, kept)
    except ShoalError:
        return False
    return True


async def _give_up_holding(live: Live, link: GuestLink) -> None:
    await live.released.wait()
    await trio.sleep(SILENT_SECONDS)
    if link.read().state == "absent":
        live.held.show()


async def _flush_often(live: Live) -> None:
    while True:
        await trio.sleep(LOG_BATCH_SECONDS)
        live.flush()


async def _watch_time(live: Live, task: Task) -> None:
    await live.released.wait()
    await trio.sleep(task.timeout_s)
    live.end("timeout", f"the job ran longer than its {task.timeout_s:g} s")


async def _watch_disk(live: Live, task: Task) -> None:
    bytes_max = task.resources.disk_bytes
    drops = 0
    while True:
        await trio.sleep(DISK_WATCH_SECONDS)
        used = entries = 0
        for name in ("out", "tmp", "vol"):
            more, count = await trio.to_thread.run_sync(outputs.usage, task.folder / name)
            used, entries = used + more, entries + count
        if used > bytes_max or entries > outputs.ENTRIES_MAX:
            live.end("disk", f"the job wrote {used} bytes in {entries} files, {bytes_max} bytes are its limit")
        if not task.is_protected:
            continue
        kept, count = await trio.to_thread.run_sync(layout.usage, task)
        if kept > layout.bytes_max(task) or count > outputs.ENTRIES_MAX:
            drops += 1
            await trio.to_thread.run_sync(layout.drop_snapshots, task)
            if drops > DROPS_MAX:
                live.end("disk", f"snapshots and checkpoints take {kept} bytes, {layout.bytes_max(task)} are allowed")
