"""What a job may do to the node by its snapshots: nothing. Whatever it leaves there, it goes on and hears why."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec
import pytest
import trio

from node.protection import layout, rehearsal
from node.protection.fetching import check
from protocol.completions import CutFailed, Guest
from protocol.effects import Resume
from protocol.errors import Refused
from protocol.jobspec import Resources
from protocol.snapshots import Manifest, Pack
from protocol.units import MIB, Digest
from tests.node.protection.conftest import StandOf
from tests.node.protection.stand import protected, resume_of
from tests.node.waiting import happens

ENDLESS: Final = "1000000"
"""Steps, of a job that its test stops."""


@pytest.mark.parametrize(
    ("trick", "word"),
    [
        ("link", "not a regular file"),
        ("folder link", "not a folder"),
        ("inner link", "symbolic link"),
        ("sparse", "more than"),
        ("header", "header claims 1099511627776 bytes"),
        ("state", "not MessagePack"),
        ("stranger", "does not belong"),
        ("deep", "deep"),
        ("pipe", "not a regular file"),
        ("hard link", "not a regular file with one name"),
        ("absent", "not where it was said to be"),
    ],
)
async def test_a_bad_snapshot_is_refused_and_the_job_goes_on(stand_of: StandOf, trick: str, word: str) -> None:
    stand = stand_of("bwrap")
    host = await stand.host()
    work = protected(stand.shut(host, TRICK=trick, STEPS="15"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run, work)
        await happens(lambda: len(host.lines) > 2)
        answer = await host.cut(work.task)
        assert isinstance(answer, CutFailed) and word in answer.reason, answer
        host.open_gate()
        await happens(lambda: host.lines[-1] == "step 15")
    assert host.blobs.total_bytes < MIB
    assert not list((host.folder / "tasks").iterdir())


@pytest.mark.parametrize("trick", ["short board", "deaf"])
async def test_a_board_that_is_cut_short_or_deaf_harms_nobody(
    stand_of: StandOf, trick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.protection.agent.CUT_SECONDS", 0.3)
    stand = stand_of("bwrap")
    host = await stand.host()
    work = protected(stand.shut(host, TRICK=trick, STEPS="20"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run, work)
        await happens(lambda: len(host.lines) > 2)
        assert isinstance(await host.cut(work.task), CutFailed)
        host.open_gate()
        await happens(lambda: host.lines[-1] == "step 20")


async def test_a_task_that_does_not_run_cannot_be_cut(stand_of: StandOf) -> None:
    host = await stand_of("bwrap").host()
    answer = await host.cut("nobody")
    assert isinstance(answer, CutFailed) and "does not run here" in answer.reason


async def test_a_snapshot_folder_that_overflows_is_emptied_then_ends_the_job(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    host = await stand.host()
    spec = stand.spec(host, "while true; do head -c 4000000 /dev/zero > $SHOAL_SNAPSHOT_DIR/x$(date +%N); done")
    small = Resources(memory_bytes=16 * MIB, disk_bytes=8 * MIB, shm_bytes=4 * MIB, pids=64)
    done = await host.run(protected(msgspec.structs.replace(spec, resources=small)))
    assert (done.reason, "snapshots and checkpoints take" in done.detail) == ("disk", True), done


async def test_a_full_disk_fails_the_cut_not_the_job(stand_of: StandOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "FREE_BYTES_MIN", 1 << 60)
    stand = stand_of("bwrap")
    host = await stand.host()
    work = protected(stand.shut(host, STEPS="15"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run, work)
        await happens(lambda: len(host.lines) > 2)
        answer = await host.cut(work.task, hold=True)
        assert isinstance(answer, CutFailed) and "does not fit" in answer.reason
        host.open_gate()
        await happens(lambda: host.lines[-1] == "step 15")


@pytest.mark.parametrize("damage", ["nobody has it", "wrong secret", "wrong number", "cannot restore", "too large"])
async def test_what_cannot_be_restored_begins_again(stand_of: StandOf, damage: str) -> None:
    stand = stand_of("bwrap")
    one, two = await stand.host(), await stand.host()
    spec = stand.spec(one, STEPS="12", TRICK=damage if damage == "cannot restore" else "")
    sealed = await one.cut_and_stop(protected(stand.shut(one, STEPS="12")))
    resume = resume_of(sealed)
    work = protected(spec, epoch=2, resume=resume)
    match damage:
        case "nobody has it":
            for pack in sealed.packs:
                for shard in pack.shards:
                    one.blobs.remove(Digest(shard))
        case "wrong secret":
            work = replace(work, secret=b"\6" * 32)
        case "wrong number":
            manifest = msgspec.structs.replace(resume.manifest, number=sealed.number + 1)
            work = replace(work, resume=Resume(manifest, resume.holders))
        case "too large":
            manifest = msgspec.structs.replace(resume.manifest, size=1 << 50)
            work = replace(work, resume=Resume(manifest, resume.holders))
        case _:
            pass
    done = await two.run(work)
    assert two.output(done)["log"].count(b"\n") == 12
    told = [line for line in two.lines if line.startswith("shoal: snapshot 1 could") or "snapshot 2 could" in line]
    assert len(told) == 1 and told[0].endswith("; starting from the beginning")
    assert two.lines.count("step 1") == 1
    assert not list((two.folder / "tasks").iterdir())


def test_manifests_whose_numbers_cannot_be() -> None:
    pack = Pack(10, 10, "copy", 1, 3, (bytes(32),))
    manifest = Manifest(bytes(16), bytes(32), 0, 1, 1, 1, 0, "framework", 0, 10, 5, (pack,))
    check(manifest, 100)
    for bad in (msgspec.structs.replace(manifest, index_bytes=11), msgspec.structs.replace(manifest, size=101)):
        with pytest.raises(Refused, match=r"agree|allowed"):
            check(bad, 100)


@pytest.mark.parametrize(("trick", "word"), [("", "protected: a dry restore"), ("differs", "came out different")])
async def test_rehearsals_tell_the_truth(stand_of: StandOf, trick: str, word: str) -> None:
    stand = stand_of("bwrap")
    host = await stand.host(rehearses=True)
    work = protected(stand.spec(host, TRICK=trick, STEPS=ENDLESS))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run, work)
        await happens(lambda: len(host.lines) > 3)
        await host.sealed(work.task)
        await happens(lambda: any(word in said.text for said in host.said if isinstance(said, Guest)))
        again = await host.sealed(work.task)
        host.runner.stop(work.task)
    assert again.is_rehearsed == (not trick)
    assert any(line.startswith("shoal: not protected:") for line in host.lines) == bool(trick)
    assert not list((host.folder / "tasks").iterdir())


async def test_a_rehearsal_that_takes_too_long_is_killed(stand_of: StandOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "SECONDS", 0.02)
    stand = stand_of("bwrap")
    host = await stand.host(rehearses=True)
    work = protected(stand.spec(host, STEPS=ENDLESS))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run, work)
        await happens(lambda: len(host.lines) > 3)
        await host.sealed(work.task)
        await happens(lambda: any("took longer" in line for line in host.lines))
        host.runner.stop(work.task)
