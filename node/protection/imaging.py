"""Process images of one task: taken where neither the hook nor the program itself saves anything, kept on this host for
a restart in place, and handed to other nodes only where the owner has named some that do the same for this one.

A stranger's node restores no image (specs/30-process-tier.md): images for strangers would cost the job its stall, and
the network its room, for nothing. So without named nodes none leaves this host, and the renter is told so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import trio

from node import outputs
from node.executors import process
from node.executors.interface import Exit, OnLine, Task
from node.process_tier import images
from node.process_tier.scene import Handle
from node.process_tier.tier import Dumped, ProcessTier
from node.protection import layout
from node.protection.removal import remove
from protocol.effects import LeaseKey
from protocol.errors import Refused, Unavailable

STALL_TIMES: Final = 100
"""An image that only stays here may cost one percent of the run, as snapshots that are spread may."""

NOWHERE: Final = "images of its processes go to no other node: this one's owner has named none (trusted_nodes)"
KEPT_HERE: Final = f"an image of its processes is kept on this host, for a restart after a crash; {NOWHERE}"

UNHOOKED: Final = ("absent", "disabled", "ended")
"""States of a hook that will cut nothing."""


class Imaging:
    """One task in the tier `sandbox`. The lease names the chunk: an image is restored for no other."""

    def __init__(self, tier: ProcessTier, task: Task, sandbox: str, lease: LeaseKey) -> None:
        self._tier = tier
        self._task = task
        self._sandbox = sandbox
        self._name = f"{lease[0].hex()}-{lease[1]}"
        self._next = 0.0
        """No image that only stays here is taken before, trio's seconds."""

    @property
    def kept(self) -> Path:
        """The newest image, if there is one."""
        return self._task.folder / layout.IMAGE

    @property
    def silent(self) -> Path:
        """Where the node keeps a board that no hook reads: a restored program holds the files it had, not new ones."""
        return self._task.folder / "taken"

    def why_not(self) -> str:
        """Empty when images can be taken of this task."""
        return self._tier.can(self._task, self._sandbox)

    async def take(self, *, hold: bool) -> Dumped:
        """Take an image, which stays in `kept`. Refused or Unavailable: none was taken, or none may leave this host;
        the job runs on, with `hold` too."""
        if not self._tier.hands_over and hold:
            raise Unavailable(NOWHERE, code="no_snapshot")
        if not self._tier.hands_over and trio.current_time() < self._next:
            raise Unavailable(KEPT_HERE, code="kept_here")
        new = self._task.folder / f"{layout.IMAGE}.new"
        await trio.to_thread.run_sync(self._make_room, new)
        dumped = await self._tier.dump(Handle(self._named(self._task), self._sandbox), new)
        self._next = trio.current_time() + STALL_TIMES * dumped.stall_us / 1_000_000
        await trio.to_thread.run_sync(layout.keep_image, self._task, new)
        if not self._tier.hands_over:
            raise Unavailable(KEPT_HERE, code="kept_here")
        return dumped

    async def bring_back(self, folder: Path, task: Task, on_line: OnLine, on_start: Callable[[], None]) -> Exit:
        """Restore an image of this chunk in place of a start, and follow the job to its end. Refused, Unavailable or
        RemoteViolation before `on_start`: nothing has run."""
        signer, image = await trio.to_thread.run_sync(images.stated, folder)
        if image.tier != self._sandbox:
            raise Unavailable(f"it is of the sandbox {image.tier}, here is {self._sandbox}", code="no_fit")
        return await self._tier.restore(folder, self._named(task), signer, on_line, on_start)

    def _named(self, task: Task) -> Task:
        """The task's own name changes with each epoch of its lease; the chunk's does not."""
        return replace(task, name=self._name)

    def _make_room(self, new: Path) -> None:
        remove(new, self._task.folder)
        first = self._task.life.first()
        memory = process.memory_of(process.descendants(first)) if first else 0
        shared = sum(outputs.usage(folder)[0] for folder, _ in self._task.shared)
        if memory + shared > layout.bytes_max(self._task):
            raise Refused(f"an image of its processes would have {memory + shared} bytes", code="snapshot_too_large")
        layout.check_room(self._task, memory + shared)
