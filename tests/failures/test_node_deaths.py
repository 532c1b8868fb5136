"""The node is killed at every labelled point of taking, committing and restoring a snapshot (the points are
`node.protection.phases.PHASES`; what CRIU's `zdtm --fault` is to CRIU). The snapshot before is restorable each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil
import pytest
import trio

from node import blobs
from node.protection import contents, layout
from node.protection.phases import PHASES
from protocol.completions import Sealed
from protocol.units import Digest
from tests.failures.victims import CUT, RESTORE, Noted, stand_in
from tests.node.protection.conftest import StandOf
from tests.node.protection.stand import Stand, protected, resume_of
from tests.node.waiting import happens

ROOT = Path(__file__).parents[2]


def test_every_point_is_tried() -> None:
    assert (*CUT, *RESTORE) == PHASES
    assert len(set(PHASES)) == len(PHASES) == 13


@pytest.mark.parametrize("phases", [CUT, RESTORE], ids=["taking", "restoring"])
async def test_a_node_killed_at_every_point(
    tmp_path: Path, images: Path, stand_of: StandOf, phases: Sequence[str]
) -> None:
    stand_of("bwrap")  # Skips where the tier cannot be used.
    command = [sys.executable, "-m", "tests.failures.victims", str(tmp_path), str(images), *phases]
    died = await trio.to_thread.run_sync(
        lambda: subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    )
    assert died.returncode == 0, died.stderr[-3000:]
    started = {phase: await _again(tmp_path / phase, images) for phase in phases}
    async with trio.open_nursery() as nursery:
        for phase, stand in started.items():
            nursery.start_soon(_goes_on, stand, tmp_path / phase, phase)


async def _again(folder: Path, images: Path) -> Stand:
    """The node is started again on the same disk, and another one beside it; both clean up first."""
    stand = stand_in(folder, images)
    await stand.host()
    await stand.host()
    return stand


async def _goes_on(stand: Stand, folder: Path, phase: str) -> None:
    """The stranger goes on from the snapshot that was noted."""
    again, other = stand.hosts
    assert not list((again.folder / "tasks").iterdir()), phase
    assert not list((again.folder / "blobs" / "partial").glob("*.put")), phase
    found = msgspec.msgpack.decode((folder / "noted").read_bytes(), type=Noted)
    for pack in found.packs:
        assert all(again.blobs.has(Digest(shard)) for shard in pack.shards[: pack.k]), phase
    sealed = Sealed("job/0/1", found.number, found.step, 0, "framework", found.size, 0, found.index_bytes, found.packs)
    steps_all = found.step + 20
    spec = stand.spec(again, STEPS=str(steps_all), PAUSE="0")
    done = await other.run(protected(spec, epoch=3, resume=resume_of(sealed), task=f"again/{phase}"))
    assert other.output(done)["log"].count(b"\n") == steps_all, phase
    steps = [line for line in other.lines if line.startswith("step ")]
    assert steps[0] == f"step {found.step + 1}", (phase, other.lines[:4])


async def test_no_victim_is_left_running(tmp_path: Path) -> None:
    """A sandbox dies with its node."""
    folder = str(tmp_path.parent)
    left = [
        one for one in psutil.process_iter(["cmdline"]) if any(folder in text for text in one.info["cmdline"] or ())
    ]
    assert not left


# ── disk full ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("error", [28, 5], ids=["ENOSPC", "EIO"])
async def test_the_disk_fails_in_each_write_of_a_cut(
    stand_of: StandOf, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """The n-th write of a second snapshot fails, for every n: each time a word, no byte left, the first one usable."""
    stand = stand_of("bwrap")
    one, two = await stand.host(), await stand.host()
    spec = stand.spec(one, STEPS="100000", PAUSE="0.05")  # It does not end while it is cut.
    work = protected(spec)
    found: list[Sealed] = []
    reasons: list[str] = []
    countdown = [-1]

    def failing(where: object, name: str) -> None:
        real = getattr(where, name)

        def call(*args: object, **named: object) -> object:
            countdown[0] -= 1
            if countdown[0] == 0:
                raise OSError(error, "the disk fails")
            return real(*args, **named)

        monkeypatch.setattr(where, name, call)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, work)
        await happens(lambda: len(one.lines) >= 3)
        found.append(await one.sealed(work.task))
        before = one.blobs.total_bytes
        failing(contents, "_copy_bytes")
        failing(layout, "take")
        failing(os, "fsync")
        failing(blobs.BlobStore, "adopt")
        failing(blobs.BlobStore, "put_from_thread")
        for point in range(1, 100):
            countdown[0] = point
            answer = await one.cut(work.task)
            countdown[0] = -1
            if isinstance(answer, Sealed):
                break
            reasons.append(answer.reason)  # type: ignore[union-attr]
            assert one.blobs.total_bytes == before, point
        monkeypatch.undo()
        one.runner.stop(work.task)
    assert len(reasons) >= 5
    assert all(reason for reason in reasons)
    spec = stand.spec(two, STEPS=str(found[0].step + 20), PAUSE="0")
    done = await two.run(protected(spec, epoch=2, resume=resume_of(found[0])))
    assert two.lines[0] == f"shoal: goes on from snapshot 1 at step {found[0].step}"
    assert two.output(done)
