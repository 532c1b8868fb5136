"""A steward's look at a snapshot of units: what opens stays for whoever goes on, what does not leaves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pytest
import trio
import trio.testing

from node.blobs import BlobStore
from node.executors.child import ChildExecutor
from node.guest.work.tensors import encode
from node.protection import fetching
from node.protection.contents import Contents, FileEntry
from node.protection.sealing import SealedFolder, Sealer
from node.protection.shelter import Shelter
from node.proving.examining import EXAMINED_BYTES_MAX, Examiner
from node.proving.resuming import unpack
from node.proving.saving import PAD, TABLE, Table
from node.runtimes import Runtime
from protocol.completions import Examined
from protocol.effects import Examine, Resume
from protocol.errors import Refused, Unavailable
from protocol.operations import Inherited
from protocol.prefix import root_of
from protocol.snapshots import Manifest
from protocol.units import MIB, MINUTE, Digest, Micros, PeerId
from storage.erasure import NUMPY, Code
from tests.node.protection.stand import ESCROW, SECRET, WORKER, Stand
from tests.node.proving.ways import Ways, leased, resuming
from tests.node.waiting import SECONDS, happens
from tests.protocol.test_unit_jobs import unit_spec

UNITS: Final = 6
SPEC: Final = unit_spec(samples=UNITS)
STATES: Final = [encode({"x": np.arange(8 + at, dtype=np.float64)}) for at in range(4)]
LEASE: Final = (ESCROW, 0, 1)


class Desk:
    """A worker's blobs and a steward's, and what the steward finds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.there, self.here = BlobStore(folder / "there", 1 << 30), BlobStore(folder / "here", 1 << 30)
        self.tasks = folder / "tasks"
        self.tasks.mkdir()
        self.asked = 0
        self.is_silent = False
        self.examiner = Examiner(self.here, Shelter(self.fetch), self.tasks)
        self.told: list[Examined] = []

    async def fetch(self, digest: Digest, size_max: int, sources: tuple[PeerId, ...]) -> None:
        self.asked += 1
        if self.is_silent:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if not self.there.has(digest):
            raise Unavailable("nobody has it", code="no_blob")
        self.here.put(self.there.read(digest, size_max))

    async def sealed(
        self, states: list[bytes], table: bytes = b"", name: str = "snapshot", secret: bytes = SECRET
    ) -> Resume:
        """A snapshot of units with these states, signed for as what it is, its shards with the worker."""
        folder = self.folder / name
        folder.mkdir()
        pieces = [piece for at, state in enumerate(states[:-1]) for piece in (state, b"read", bytes([at]) * 9)]
        stream = b"".join(piece + bytes(-len(piece) % PAD) for piece in [*pieces, states[-1]])
        sizes = tuple((len(state), 4, 9) for state in states[:-1])
        honest = msgspec.msgpack.encode(Table((1.0,) * len(sizes), sizes, len(states[-1])))
        (folder / "000000.units").write_bytes(stream)
        (folder / TABLE).write_bytes(honest)
        (folder / "pieces").mkdir()
        (folder / "of").mkdir()
        for file in ("000000.units", TABLE):
            (folder / "of" / file).write_bytes((folder / file).read_bytes())
        trace = unpack(folder / "of", folder / "pieces")[1]
        (folder / TABLE).write_bytes(table or honest)
        files = tuple(FileEntry(file, (folder / file).stat().st_size) for file in ("000000.units", TABLE))
        sealer = Sealer(self.there, LEASE, secret, NUMPY)
        sealer.code = Code(2, 4)
        made = await sealer.seal(folder, Contents(files), "application", trace.units)
        return granted(made, (Inherited(1, trace.units, root_of(trace, trace.units), bytes(64)),))

    async def look(self, resume: Resume, patience: Micros = MINUTE) -> str:
        """Code of what is found."""
        await self.examiner.examine(order(resume, patience), self.told.append)
        return self.told[-1].code

    def assert_nothing_is_left(self) -> None:
        assert self.here.total_bytes == 0 and not list(self.tasks.iterdir()) and self.told[-1].kept == ()


def order(resume: Resume, patience: Micros = MINUTE) -> Examine:
    return Examine("examine-1", LEASE, resume, SECRET, SPEC, patience)


def granted(made: SealedFolder, inherited: tuple[Inherited, ...]) -> Resume:
    manifest = Manifest(
        bytes(16), *LEASE, made.number, made.step, 0, made.tier, 0, made.size, made.index_bytes, made.packs,
        inherited=inherited,
    )  # fmt: skip
    return Resume(manifest, tuple(tuple((at, WORKER) for at in range(pack.n)) for pack in made.packs))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_what_opens_is_kept_until_it_is_let_go(desk: Desk) -> None:
    resume = await desk.sealed(STATES)
    assert await desk.look(resume) == ""
    (done,) = desk.told
    (pack,) = resume.manifest.packs
    assert done.task == "examine-1" and done.lease == LEASE
    assert len(done.kept) == pack.k and all(desk.here.has(shard) for shard in done.kept)
    assert not list(desk.tasks.iterdir())
    desk.examiner.drop(done.kept)
    assert desk.here.total_bytes == 0


async def test_what_was_here_before_stays_here(desk: Desk) -> None:
    resume = await desk.sealed(STATES)
    (pack,) = resume.manifest.packs
    for shard in pack.shards[: pack.k]:
        desk.here.put(desk.there.read(Digest(shard), MIB))
    assert await desk.look(resume) == "" and desk.asked == 0
    assert desk.told[0].kept == () and desk.here.has(Digest(pack.shards[0]))


def with_root(of: Resume, like: Resume) -> Resume:
    """The snapshot, with the word that was given for another."""
    return Resume(msgspec.structs.replace(of.manifest, inherited=like.manifest.inherited), of.holders)


@pytest.mark.parametrize("at", [0, 2, 3])
async def test_one_junk_state_is_enough(desk: Desk, at: int) -> None:
    """The last one, or any before it: whoever goes on needs all of them."""
    honest = await desk.sealed(STATES)
    junk = [bytes(len(state)) if index == at else state for index, state in enumerate(STATES)]
    resume = with_root(await desk.sealed(junk, name="junk"), honest)
    assert await desk.look(resume) == "snapshot_bad" and "signed for" in desk.told[0].detail
    desk.assert_nothing_is_left()


async def test_a_last_state_that_no_program_writes(desk: Desk) -> None:
    resume = await desk.sealed([*STATES[:-1], b"junk" * 8])
    assert await desk.look(resume) == "snapshot_bad" and "state before unit 3" in desk.told[0].detail
    desk.assert_nothing_is_left()


@pytest.mark.parametrize(
    "table",
    [
        b"\xc1" * 40,
        msgspec.msgpack.encode(Table((1.0,), ((1 << 40, 0, 0),), 1)),
        msgspec.msgpack.encode(Table((1.0, 1.0), ((8, 0, 0),) * 2, 8)),
    ],
)
async def test_a_junk_table(desk: Desk, table: bytes) -> None:
    assert await desk.look(await desk.sealed(STATES, table)) == "snapshot_bad"
    desk.assert_nothing_is_left()


async def test_shards_of_nothing(desk: Desk) -> None:
    """Bytes that hash to what the manifest names, and open with no secret of this job."""
    assert await desk.look(await desk.sealed(STATES, secret=b"\6" * 32)) == "snapshot_bad"
    desk.assert_nothing_is_left()


@pytest.mark.parametrize(
    "changes",
    [
        {"inherited": (Inherited(1, 3, bytes(32), bytes(64)),)},
        {"inherited": (Inherited(1, 2, bytes(32), bytes(64)),)},
        {"inherited": msgspec.UNSET},
        {"step": 4},
        {"tier": "framework"},
        {"number": 2},
        {"index_bytes": 1 << 40},
        {"size": 1 << 62},
    ],
)
async def test_a_manifest_that_says_something_else(desk: Desk, changes: dict[str, object]) -> None:
    resume = await desk.sealed(STATES)
    bent = Resume(msgspec.structs.replace(resume.manifest, **changes), resume.holders)
    expected = "not_examined" if "size" in changes else "snapshot_bad"
    assert await desk.look(bent) == expected
    desk.assert_nothing_is_left()


async def test_more_than_the_job_may_have_is_not_fetched(desk: Desk) -> None:
    resume = await desk.sealed(STATES)
    large = Resume(msgspec.structs.replace(resume.manifest, size=EXAMINED_BYTES_MAX), resume.holders)
    small = msgspec.structs.replace(SPEC.resources, memory_bytes=MIB, disk_bytes=MIB)
    work = msgspec.structs.replace(SPEC, resources=small)
    await desk.examiner.examine(Examine("examine-1", LEASE, large, SECRET, work, MINUTE), desk.told.append)
    assert (desk.told[0].code, desk.asked) == ("snapshot_bad", 0)


async def test_shards_of_impossible_size_are_not_made_room_for(desk: Desk) -> None:
    """A pack of a few bytes in shards of a terabyte."""
    resume = await desk.sealed(STATES)
    (pack,) = resume.manifest.packs
    packs = (msgspec.structs.replace(pack, shard_size=1 << 40),)
    bent = Resume(msgspec.structs.replace(resume.manifest, packs=packs), resume.holders)
    assert await desk.look(bent) == "not_examined" and desk.asked == 0
    desk.assert_nothing_is_left()
    with pytest.raises(Refused, match="are allowed"):  # Nor by whoever goes on.
        fetching.check(bent.manifest, 1 << 32)
    fetching.check(resume.manifest, 1 << 32)


async def test_holders_that_have_nothing(desk: Desk) -> None:
    resume = await desk.sealed(STATES)
    (pack,) = resume.manifest.packs
    for shard in pack.shards[1:]:
        desk.there.remove(Digest(shard))
    assert await desk.look(resume) == "snapshot_missing" and "are needed" in desk.told[0].detail
    assert desk.asked > 0
    desk.assert_nothing_is_left()


async def test_holders_that_are_silent(desk: Desk) -> None:
    desk.is_silent = True
    assert await desk.look(await desk.sealed(STATES), Micros(1)) == "snapshot_missing"
    assert "did not come within" in desk.told[0].detail
    desk.assert_nothing_is_left()


async def test_what_nobody_waits_for_is_let_go_of(desk: Desk) -> None:
    desk.is_silent = True
    resume = await desk.sealed(STATES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.examiner.examine, order(resume), desk.told.append)
        await happens(lambda: desk.asked > 0)
        desk.examiner.stop("another")
        desk.examiner.stop("examine-1")
    assert desk.told == [] and desk.here.total_bytes == 0
    desk.examiner.stop("examine-1")


async def test_the_same_asked_for_again_while_the_first_ends(desk: Desk) -> None:
    desk.is_silent = True
    resume, first_ends = await desk.sealed(STATES), trio.Event()
    fetch = desk.fetch

    async def late(digest: Digest, size_max: int, sources: tuple[PeerId, ...]) -> None:
        try:
            await fetch(digest, size_max, sources)
        finally:  # As a thread that reads the disk is waited for.
            with trio.CancelScope(shield=True):
                await first_ends.wait()

    desk.examiner = Examiner(desk.here, Shelter(late), desk.tasks)
    with trio.fail_after(SECONDS):
        await asked_twice(desk, order(resume), first_ends)
    assert desk.told == [] and desk.here.total_bytes == 0


async def asked_twice(desk: Desk, work: Examine, first_ends: trio.Event) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.examiner.examine, work, desk.told.append)
        await happens(lambda: desk.asked > 0)
        desk.examiner.stop("examine-1")
        asked = desk.asked
        nursery.start_soon(desk.examiner.examine, work, desk.told.append)
        try:
            await happens(lambda: desk.asked > asked)
        finally:
            first_ends.set()
        await trio.testing.wait_all_tasks_blocked()
        desk.examiner.stop("examine-1")


async def test_a_full_disk_is_no_fault_of_the_snapshot(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.protection.layout.FREE_BYTES_MIN", 1 << 60)
    assert await desk.look(await desk.sealed(STATES)) == "not_examined" and "free" in desk.told[0].detail
    desk.assert_nothing_is_left()


async def test_a_shard_that_was_given_up_meanwhile_is_asked_for_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = await desk.sealed(STATES)

    def gone(*_: object) -> None:
        for shard in resume.manifest.packs[0].shards:
            desk.here.remove(Digest(shard))
        raise Unavailable("it is gone", code="no_blob")

    monkeypatch.setattr("node.protection.restoring.lay_out", gone)
    assert await desk.look(resume) == "snapshot_missing"
    desk.assert_nothing_is_left()


async def test_who_goes_on_needs_nobody_but_the_steward(tmp_path: Path, numpy_runtimes: Mapping[str, Runtime]) -> None:
    """A worker that hands its snapshot over and is silent from then on, with everybody who held it."""
    ways = Ways(Stand(tmp_path / "stand", ChildExecutor("test-examining"), numpy_runtimes), tmp_path)
    one, desk = await ways.stand.host(), Desk(tmp_path)
    spec = ways.spec(one)
    (sealed,) = await ways.lost(one, leased(spec, 1), 3)
    resume, desk.there = resuming(sealed, 1), one.blobs
    work = Examine("examine-1", LEASE, resume, SECRET, spec, MINUTE)
    await desk.examiner.examine(work, desk.told.append)
    assert desk.told[0].code == ""
    one.blobs = ways.stand.hosts[0].blobs = desk.here  # From here on only what the steward kept is to be had.
    two = await ways.stand.host()
    ways.spec(two)
    ended = await two.run(leased(spec, 2, resume))
    assert (ended.reason, ended.begun) == ("ok", 3), two.lines
    assert set(two.asked) >= set(desk.told[0].kept)
