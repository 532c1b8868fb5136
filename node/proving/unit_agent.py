"""What watches a running unit program: says how many units are done, and takes snapshots of them when told to.

The program is never stopped for it: what is done lies in files that do not change any more. Spec: specs/31-units.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

import trio

from node.executors.interface import Exit, Task
from node.protection.agent import CUT_SECONDS, STEPS_SECONDS, Agent, Voice
from node.protection.contents import Contents
from node.protection.guest_link import POLL_SECONDS
from node.protection.sealing import SealedFolder, Sealer
from node.proving.saving import NOTHING_NEW, UnitShelf
from protocol.completions import FirstUnits, Guest, Sealed
from protocol.errors import Unavailable
from protocol.operations import INHERITED_MAX
from protocol.units import PPM

FULL: Final = f"{INHERITED_MAX} earlier leases did units of this chunk: who goes on begins where this one began"
"""Why a lease takes none of its own: a claim names no more."""


class UnitAgent(Agent):
    """One task's snapshots."""

    has_board: ClassVar[bool] = False

    def __init__(self, name: str, task: Task, voice: Voice, shelf: UnitShelf, units: int) -> None:
        super().__init__(name, task, voice)
        self._shelf = shelf
        self._units = units
        self._sealed_units = 0
        self._done = 0
        self._grew = trio.Event()
        self.is_full = False
        """Whether as many leases as may be listed did units before this one."""

    def begin_again(self) -> None:
        """The program starts once more, from its beginning."""
        self._shelf.clear()
        self._sealed_units, self._done, self.is_full = 0, 0, False

    def restart(self, ended: Exit) -> str:
        """Never: a program that crashes on its states would crash again."""
        return ""

    async def _listen(self) -> None:
        told = -1
        while True:
            self._done = await trio.to_thread.run_sync(self._shelf.done)
            if self._done > told:
                told = self._done
                self.voice.tell(Guest(self.name, "running", "", told))
                self._grew.set()
                self._grew = trio.Event()
            # That it goes on is told of at once: until then nobody computes.
            await trio.sleep(STEPS_SECONDS if self._done >= self._shelf.begun else POLL_SECONDS)

    async def _snapshot(self, hold: bool) -> SealedFolder:
        if self._sealer is None:
            raise Unavailable("the job does not run", code="no_snapshot")
        if self.is_full:
            raise Unavailable(FULL, code="no_snapshot")
        if not hold:  # For a handover what there is will do.
            await self._wait_for_more()
        folder, contents, first = await trio.to_thread.run_sync(self._shelf.save)
        return await self._seal(self._sealer, folder, contents, first)

    async def _seal(self, sealer: Sealer, folder: Path, contents: Contents, first: FirstUnits) -> SealedFolder:
        sealed = await sealer.seal(folder, contents, "application", first.units)
        self._sealed_units = first.units
        self.voice.tell(
            Sealed(
                task=self.name,
                number=sealed.number,
                step=first.units,
                progress_ppm=first.units * PPM // self._units,
                tier="application",
                size=sealed.size,
                stall_us=0,
                index_bytes=sealed.index_bytes,
                packs=sealed.packs,
                first=first,
            )
        )
        return sealed

    async def _wait_for_more(self) -> None:
        """Until a unit is done that is in no snapshot yet."""
        with trio.move_on_after(CUT_SECONDS):
            while self._done <= max(self._sealed_units, self._shelf.begun):
                await self._grew.wait()
            return
        raise Unavailable(f"{NOTHING_NEW}, within {CUT_SECONDS:g} s", code="no_snapshot")
