"""A unit program under a lease, from its start to its end: it goes on from a snapshot where there is one, and snapshots
are taken of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import trio

from node.blobs import BlobStore
from node.executors.interface import Executor, Exit, Task
from node.protection import layout
from node.protection.agent import Protected, Voice
from node.protection.hosting import Live, begin_again, host
from node.protection.restoring import tell
from node.protection.sealing import Sealer
from node.protection.shelter import Shelter
from node.proving.resuming import restore_units
from node.proving.saving import UnitShelf
from node.proving.unit_agent import UnitAgent
from protocol.effects import Run
from protocol.operations import INHERITED_MAX

BEGIN: Final = "SHOAL_BEGIN"
"""The variable that names the unit at which the program goes on."""


@dataclass(frozen=True, slots=True)
class UnitHost:
    """One run of units of a lease; its folders are laid out."""

    live: Live
    executor: Executor
    task: Task
    work: Run
    blobs: BlobStore
    shelter: Shelter

    async def run(self, on_start: Callable[[str], None], hear: Callable[[Protected], None]) -> Exit:
        """To its end. Never raises for what a job does."""
        live, work, units = self.live, self.work, self.work.spec.units
        assert work.lease is not None
        shelf = UnitShelf(self.task, units)
        live.agent = agent = UnitAgent(work.task, self.task, Voice(hear, live.line), shelf, units)
        sealer = Sealer(self.blobs, work.lease, work.secret, self.shelter.erasure)
        sealer.on_phase, sealer.only_grows = self.shelter.on_phase, True
        agent.begin(work.task, agent.voice, sealer, None)
        if work.resume is not None:
            with live.preparing:
                live.begun = await restore_units(live, work, self.task, shelf, self.blobs, self.shelter)
            agent.is_full = live.begun > 0 and len(work.resume.manifest.inherited or ()) >= INHERITED_MAX
        if not live.begun:
            return await host(live, self.executor, self.task, on_start)
        task = replace(self.task, env={**self.task.env, BEGIN: str(live.begun)})
        ended = await host(live, self.executor, task, on_start)
        if ended.reason != "exit" or live.ended_by:
            return ended
        # On states of strangers: whether it is the job's own fault, only a start from its beginning shows.
        begin_again(live, "the program failed on the states of the snapshot")
        tell(live, "began_again")
        live.begun, live.scope = 0, trio.CancelScope()
        await trio.to_thread.run_sync(layout.renew, self.task, ("out", "taken"))
        agent.begin_again()
        return await host(live, self.executor, self.task, on_start)
