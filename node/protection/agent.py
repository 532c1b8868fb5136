"""What watches one running task: cuts snapshots of it when told to, says what its hook says, and has the first of them
rehearsed. Nothing here ever ends the job."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import trio

from node.executors import process
from node.executors.interface import Exit, Task
from node.protection import layout
from node.protection.application import CheckpointWatch, tell
from node.protection.contents import Contents, copy, examine, step_of
from node.protection.guest_link import POLL_SECONDS, GuestLink, Words
from node.protection.imaging import UNHOOKED, Imaging
from node.protection.removal import remove
from node.protection.sealing import SealedFolder, Sealer
from protocol.completions import NOT_PROTECTED, CutFailed, Guest, Recovering, Sealed
from protocol.errors import ShoalError, Unavailable
from protocol.snapshots import Tier
from protocol.units import MIB
from storage.erasure import Code

CUT_SECONDS: Final = 120.0
"""How long a cut waits for the next loop head: longer than a step of any job that fits a home's GPU."""

FIRST_CUT_SECONDS: Final = 45.0
"""How long a cut waits for a program that has never answered one: its renter hears within a minute that it cannot be
cut, and what it saves itself is taken instead."""

ASK_SECONDS: Final = 10.0
"""How long a program that handles SIGUSR1 may take to save itself."""

LEAVE_SECONDS: Final = 30.0
"""How long a program may take to save itself and leave after SIGTERM."""

STEPS_SECONDS: Final = 0.5
"""How often the machines hear how far the job is: a beat, once a second, carries it on."""

RAM_MIN: Final = 8 * MIB
"""What copies for a snapshot may take at least, however full the job's memory is."""

RESTARTS_MAX: Final = 1
"""Times that a program that crashed is started again here: the second crash is its own."""

_CRASHES: Final = (
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGABRT,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGKILL,
)
_LISTENS: Final = ("loaded", "running", "restored")

Protected = Guest | Recovering | Sealed | CutFailed
"""What an agent tells the machines."""


@dataclass(frozen=True, slots=True)
class Voice:
    """Where an agent's words go: `tell` to the machines, `log` into the job's own log."""

    tell: Callable[[Protected], None]
    log: Callable[[str], None]


Rehearse = Callable[[SealedFolder], Awaitable[str]]
"""Restore what was sealed in a shadow process; empty when it came out equal, else why not."""


class Agent:
    """One task's snapshots. `name` = the task under which the machines know it; attach a link for each start of it."""

    has_board: ClassVar[bool] = True
    """Whether its programs load the hook, and a board is laid out for them."""

    def __init__(self, name: str, task: Task, voice: Voice) -> None:
        self.name = name
        self.voice = voice
        self._task = task
        self._sealer: Sealer | None = None
        self._rehearse: Rehearse | None = None
        self.imaging: Imaging | None = None
        """Where this node can take images of processes."""
        self._link: GuestLink | None = None
        self._is_back = False
        self._checkpoints = CheckpointWatch(task.folder / "checkpoint", task.folder / "taken" / "clock")
        self._hold: bool | None = None
        self._asked = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._is_rehearsed = False
        self._restarts = 0
        self.is_leaving = False
        """Whether the program was asked to save itself and leave."""

    def begin(self, name: str, voice: Voice, sealer: Sealer, rehearse: Rehearse | None) -> None:
        """The task belongs to a lease now, under this name: snapshots may be taken."""
        self.name, self.voice = name, voice
        self._sealer, self._rehearse = sealer, rehearse

    # ── one start of the sandbox ─────────────────────────────────────────────────────────────────────────────────────
    def attach(self, link: GuestLink) -> None:
        """The task starts (again) with this board."""
        self._link = link
        self._is_back = False

    def detach(self) -> None:
        """Its processes have ended."""
        if self._link is not None:
            self._tell_back(self._link.read())
        self._link = None

    def cut(self, *, hold: bool, code: Code) -> None:
        """Take a snapshot as soon as possible. Answered by `Sealed` or `CutFailed`, one for all orders under way, or by
        the end of the job: its `RunDone` says that."""
        if self._sealer is not None:
            self._sealer.code = code
        self._hold = hold
        if self._idle.is_set():
            self._idle = trio.Event()
        if self._link is not None and not hold:
            self._link.order("hold", 0)
        self._asked.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            while True:
                await self._asked.wait()
                self._asked = trio.Event()
                hold, self._hold = bool(self._hold), None
                sealed = await self._serve(hold)
                if not self._asked.is_set():
                    self._idle.set()
                if sealed and sealed.tier == "framework" and self._rehearse is not None:
                    nursery.start_soon(self._rehearsal, self._rehearse, sealed)
                    self._rehearse = None

    async def _listen(self) -> None:
        told, look, began = 0, trio.current_time(), -1
        while True:
            if self._link is not None and (trio.current_time() >= look or told == began):
                look = trio.current_time() + STEPS_SECONDS
                now = self._link.read()
                if (steps := now.get("steps")) != told:
                    told = steps
                    self.voice.tell(Guest(self.name, now.state, "", steps))
            if self._link is not None and (words := self._link.news()):
                self.voice.tell(Guest(self.name, words.state, words.text, words.get("steps")))
                if words.state == "disabled" and words.text:
                    self.voice.log(f"shoal: no snapshots of this program's memory: {words.text}")
                if self._tell_back(words):
                    told = began = words.get("restored_step")  # Its next step is told of at once.
                    restored = self._task.folder / "snap" / "restore"
                    await trio.to_thread.run_sync(remove, restored, self._task.folder)
            await trio.sleep(POLL_SECONDS)

    def _tell_back(self, words: Words) -> bool:
        """Tell once per start that it goes on where it was; whether that was now."""
        if self._is_back or not words.has_gone_on:
            return False
        self._is_back = True
        self.voice.tell(Recovering(self.name, "restored"))
        return True

    def restart(self, ended: Exit) -> str:
        """Why the task starts once more on this host, from what was kept of it; empty when it does not."""
        number = next((number for number in _CRASHES if ended.code in {-number, 128 + number}), None)
        if ended.reason != "exit" or number is None or self._restarts >= RESTARTS_MAX:
            return ""
        kept = any((self._task.folder / name).is_dir() for name in ("kept", layout.IMAGE))
        if not kept and not self._checkpoints.look().files:
            return ""
        self._restarts += 1
        return number.name

    # ── snapshots ────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _serve(self, hold: bool) -> SealedFolder | None:
        try:
            return await self._snapshot(hold)
        except ShoalError as error:
            reason = error.detail
        except OSError as error:
            reason = f"the node's disk failed: {error.strerror}"
        if self._link is not None:
            self._link.order("hold", 0)  # Nobody takes over from a snapshot that is not there.
        self.voice.tell(CutFailed(self.name, reason[:500]))
        return None

    async def _snapshot(self, hold: bool) -> SealedFolder:
        if self._link is None or self._sealer is None:
            raise Unavailable("the job does not run", code="no_snapshot")
        words = self._link.read()
        if words.state in _LISTENS:
            try:
                return await self._framework(self._link, self._sealer, hold)
            except Unavailable as error:  # It comes to no loop head: perhaps it saves itself.
                if hold or self._link is None:
                    raise
                now = self._link.read()
                words = Words(now.state, f"{error.detail} ({now.text})" if now.text else error.detail, now.values)
        return await self._application(words, self._sealer, hold)

    async def _framework(self, link: GuestLink, sealer: Sealer, hold: bool) -> SealedFolder:
        link.order("ram_max", self._room_in_memory())
        await trio.to_thread.run_sync(layout.drop_late, self._task)
        seconds = CUT_SECONDS if link.read().get("answered") else min(FIRST_CUT_SECONDS, CUT_SECONDS)
        wanted = link.want(hold=hold)
        sealer.on_phase("asked")
        words = await link.wait_answer(wanted, seconds)
        sealer.on_phase("answered")
        folder = await trio.to_thread.run_sync(layout.take, self._task, words.get("number"))
        sealer.on_phase("taken")
        own, contents = await trio.to_thread.run_sync(self._copied, folder, "framework")
        sealer.on_phase("copied")
        step = await trio.to_thread.run_sync(step_of, own)
        step = words.get("steps") if step is None else step
        try:
            sealed = self._sealed(await sealer.seal(own, contents, "framework", step), words)
        except (ShoalError, OSError):
            await trio.to_thread.run_sync(remove, own, self._task.folder)
            raise
        sealer.on_phase("told")
        await trio.to_thread.run_sync(layout.keep, self._task, own)
        sealer.on_phase("kept")
        return sealed

    async def _application(self, words: Words, sealer: Sealer, hold: bool) -> SealedFolder:
        first = self._task.life.first()
        told = tell(first, signal.SIGTERM if hold else signal.SIGUSR1)
        self.is_leaving = self.is_leaving or (hold and told > 0)
        seen = await self._checkpoints.wait_complete((LEAVE_SECONDS if hold else ASK_SECONDS) if told else 0.1)
        if seen is None and self._is_for_images(words):
            return await self._image(words, sealer, hold)
        if seen is None:
            why = words.text or ("no hook has spoken" if words.state == "absent" else f"the hook is {words.state}")
            raise Unavailable(f"{why}; nothing complete and new lies in /checkpoint", code="no_snapshot")
        folder = self._task.folder / "checkpoint"
        own, contents = await trio.to_thread.run_sync(self._copied, folder, "application")
        try:
            if await trio.to_thread.run_sync(self._checkpoints.look) != seen:
                raise Unavailable("the job wrote into /checkpoint while it was read", code="no_snapshot")
            sealed = self._sealed(await sealer.seal(own, contents, "application", words.get("steps")), words)
        finally:
            await trio.to_thread.run_sync(remove, own, self._task.folder)
        self._checkpoints.taken = seen
        await trio.to_thread.run_sync(remove, self._task.folder / layout.IMAGE, self._task.folder)
        return sealed

    def _is_for_images(self, words: Words) -> bool:
        """Whether neither the hook nor the program saves anything, and its processes can be saved as they are."""
        if self.imaging is None or words.state not in UNHOOKED or self.imaging.why_not():
            return False
        return not self._checkpoints.look().files

    async def _image(self, words: Words, sealer: Sealer, hold: bool) -> SealedFolder:
        assert self.imaging is not None
        dumped = await self.imaging.take(hold=hold)
        kept, bytes_max = self.imaging.kept, layout.bytes_max(self._task)
        contents = await trio.to_thread.run_sync(lambda: examine(kept, bytes_max, is_framework=False))
        return self._sealed(await sealer.seal(kept, contents, "process", 0), words, dumped.stall_us)

    async def settle(self) -> None:
        """Wait until the order under way is done; the program that it asked to leave has left."""
        with trio.move_on_after(LEAVE_SECONDS):
            await self._idle.wait()

    def _copied(self, folder: Path, tier: Tier) -> tuple[Path, Contents]:
        """A copy of a snapshot that is out of the job's reach; a taken original is deleted."""
        own = self._task.folder / "taken" / "own"
        remove(own, self._task.folder)
        try:
            bytes_max = layout.bytes_max(self._task)
            contents = examine(folder, bytes_max, is_framework=tier == "framework")
            layout.check_room(self._task, contents.size)
            copy(folder, own, contents)
        except (ShoalError, OSError):
            remove(own, self._task.folder)
            raise
        finally:
            if tier == "framework":
                remove(folder, self._task.folder)
        return own, contents

    def _sealed(self, sealed: SealedFolder, words: Words, stall_us: int | None = None) -> SealedFolder:
        self.voice.tell(
            Sealed(
                task=self.name,
                number=sealed.number,
                step=sealed.step,
                progress_ppm=min(words.get("progress_ppm"), 1_000_000),
                tier=sealed.tier,
                size=sealed.size,
                stall_us=words.get("stall_us") if stall_us is None else stall_us,
                index_bytes=sealed.index_bytes,
                packs=sealed.packs,
                is_rehearsed=self._is_rehearsed,
            )
        )
        return sealed

    async def _rehearsal(self, rehearse: Rehearse, sealed: SealedFolder) -> None:
        why_not = await rehearse(sealed)
        if not why_not and self._link is not None and not (said := self._link.read()).get("is_complete"):
            why_not = said.text or "not everything that the program holds is in its snapshots"
        self._is_rehearsed = not why_not
        if why_not:
            self.voice.log(f"shoal: {NOT_PROTECTED}{why_not}")
        if self._link is not None:
            words = self._link.read()
            text = f"{NOT_PROTECTED}{why_not}" if why_not else "protected: a dry restore came out equal"
            self.voice.tell(Guest(self.name, words.state, text, words.get("steps")))

    def _room_in_memory(self) -> int:
        """Three quarters of what the job's memory limit leaves, so that a copy never is what breaks it."""
        first = self._task.life.first()
        used = process.memory_of(process.descendants(first)) if first else 0
        return max(RAM_MIN, (self._task.resources.memory_bytes - used) * 3 // 4)
