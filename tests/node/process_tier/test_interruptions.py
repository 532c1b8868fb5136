"""Every phase may be the last: cancelled, or with the node killed in it. The job goes on or is dead, nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from node.process_tier import images
from node.process_tier.tier import PHASES, Bench, Phase, ProcessTier
from tests.node.process_tier.conftest import TIERS
from tests.node.process_tier.workshop import NETWORK, PYTHON, WORKER, Workshop, last_word, leftovers
from tests.node.waiting import happens

ROOT = Path(__file__).parents[3]
COMMAND = (f"python3 -c '{PYTHON}'",)
DUMP, RESTORE = PHASES[:6], PHASES[6:]


def cancelling(workshop: Workshop, phase: Phase, scope: trio.CancelScope) -> ProcessTier:
    """A tier during whose phase the scope is cancelled."""

    def note(now: Phase) -> None:
        if now == phase:
            scope.cancel()

    return ProcessTier(workshop.probed, Bench(workshop.label, workshop.images), WORKER, NETWORK, on_phase=note)


@pytest.mark.parametrize("name", TIERS)
async def test_a_dump_cancelled_anywhere_leaves_the_job_running(workshop: Workshop, name: str) -> None:
    gates = range(2, 2 + 2 * len(DUMP), 2)
    task = workshop.task("first", COMMAND, gates=gates)
    async with workshop.running(name, task) as live:
        await live.reaches(2)
        before = set(leftovers(workshop.label))
        for phase, gate in zip(DUMP, gates, strict=True):
            with trio.CancelScope() as scope:
                await cancelling(workshop, phase, scope).dump(live.handle, workshop.folder / phase)
            assert scope.cancel_called
            assert not (workshop.folder / f"{phase}.part").exists()
            assert (workshop.folder / phase).exists() is not scope.cancelled_caught
            assert set(leftovers(workshop.label)) == before, phase
            workshop.open_gate(task, gate)
            await live.reaches(gate + 2)
        await happens(lambda: live.ended is not None)
        assert live.lines[-1] == last_word()


@pytest.mark.parametrize("name", TIERS)
async def test_a_restore_cancelled_anywhere_leaves_nothing(workshop: Workshop, name: str) -> None:
    async with workshop.running(name, workshop.task("first", COMMAND, gates=[30])) as live:
        await live.reaches(5)
        await workshop.tier().dump(live.handle, workshop.folder / "snapshot")
    for phase in RESTORE:
        with trio.CancelScope() as scope:
            task = workshop.task(phase, COMMAND, gates=[30, 60])
            await cancelling(workshop, phase, scope).restore(workshop.folder / "snapshot", task, WORKER.peer)
        assert scope.cancelled_caught, phase
        assert leftovers(workshop.label) == [], phase
    images.verify(workshop.folder / "snapshot", WORKER.peer, NETWORK)  # Trying changed nothing of it.


@pytest.mark.parametrize(("name", "phase"), [("runc", "dump"), ("bwrap", "dump"), ("bwrap", "copy")])
async def test_a_node_killed_in_a_dump_is_cleaned_up_after(workshop: Workshop, name: str, phase: str) -> None:
    """Frozen processes outlive the node that froze them; the next one thaws and ends them, and restores the last
    whole snapshot."""
    command = [sys.executable, "-m", "tests.node.process_tier.agent_process", str(workshop.folder)]
    agent = await trio.to_thread.run_sync(
        lambda: subprocess.run([*command, str(workshop.images), name, phase], cwd=ROOT, capture_output=True, text=True)
    )
    assert agent.returncode == -signal.SIGKILL, agent.stderr[-2000:]
    label = (workshop.folder / "label").read_text()
    assert leftovers(label)
    await ProcessTier(workshop.probed, Bench(label, workshop.images), WORKER, NETWORK).clean()
    await workshop.executor_of(name, label).clean()
    await happens(lambda: leftovers(label) == [])
    task = replace(workshop, folder=workshop.folder / "again").task("second", COMMAND)
    lines: list[str] = []
    with trio.CancelScope() as scope:

        def see(line: str) -> None:
            lines.append(line)
            if len(lines) == 5:
                scope.cancel()

        await workshop.tier().restore(workshop.folder / "1", task, WORKER.peer, see)
    first = int(lines[0].split()[1])
    assert lines[:5] == [f"at {first + n}" for n in range(5)]
