"""Looks at snapshots that are to be handed over: few per lease, one at a time per chunk, believed only as answered."""

from __future__ import annotations

from typing import Literal

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol import wire
from protocol.completions import Examined
from protocol.effects import Compute, Effect, Examine, LetGo, Resume, Stop
from protocol.examination import EXAMINED_MAX, GRACE, NOTICE_BYTES_MAX, Examinations, held_here, patience
from protocol.handover import HandoverProposal
from protocol.identity import Identity
from protocol.job_record import ChunkRecord, JobRecord
from protocol.operations import Handover, Signature, SignedOp
from protocol.snapshots import Manifest, Pack, PackHolders, SnapshotNotice, is_receipt, receipt
from protocol.units import SECOND, Digest, JobId, Micros, PeerId
from tests.protocol.test_inherited_units import PACK
from tests.protocol.test_unit_jobs import unit_spec

STEWARD, HOLDER = Identity(b"\1" * 32), Identity(b"\2" * 32)
WORKER, ESCROW = PeerId(b"\3" * 32), bytes(32)
PROPOSAL = HandoverProposal(SignedOp(b"", (Signature(WORKER, bytes(64)),)))
CHUNKS = 2
TASKS = st.integers(0, CHUNKS - 1)
CODES = st.sampled_from(["", "snapshot_missing", "snapshot_bad", "not_examined"])


def job(chunks: int = CHUNKS) -> JobRecord:
    spec = unit_spec(chunks=chunks)
    made = [ChunkRecord(index) for index in range(chunks)]
    return JobRecord(JobId(bytes(16)), WORKER, "a", spec, bytes(32), 1, Micros(0), Micros(0), 1, 1, made)


def manifest(chunk: int, epoch: int, number: int, *packs: Pack) -> Manifest:
    return Manifest(bytes(16), ESCROW, chunk, epoch, number, 1, 0, "application", 0, 10, 10, packs or (PACK,))


class Looking(RuleBasedStateMachine):
    """Proposals, answers and ends of leases in any order; some answers are lost, some come twice or too late."""

    def __init__(self) -> None:
        super().__init__()
        self.record = job()
        self.machine = Examinations(self.record, b"s" * 32)
        self.now = Micros(0)
        self.epochs = [1] * CHUNKS
        self.open: dict[str, Examine] = {}
        """Under way in the world."""
        self.all: list[Examine] = []
        self.lost: set[str] = set()
        self.answered: dict[tuple[tuple[bytes, int, int], bytes], set[str]] = {}

    def act(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert isinstance(effect, Compute)
            match effect.work:
                case Examine() as work:
                    assert work.task not in self.open and all(one.task != work.task for one in self.all)
                    self.open[work.task] = work
                    self.all.append(work)
                case Stop(task):
                    assert task in self.lost or task in self.open
                    self.open.pop(task, None)
                    self.lost.discard(task)
                case _:
                    raise AssertionError(effect)

    @rule(chunk=TASKS, number=st.integers(1, 4))
    def propose(self, chunk: int, number: int) -> None:
        lease, shown = (ESCROW, chunk, self.epochs[chunk]), manifest(chunk, self.epochs[chunk], number)
        digest = wire.digest(wire.encode(shown))
        operation = Handover(*lease, 1, 1, digest)
        code, effects = self.machine.ask(WORKER, PROPOSAL, operation, Resume(shown, ((),)), self.now)
        self.act(effects)
        heard = self.answered.get((lease, digest), set())
        assert code in heard or code in ("examining", "not_examined")
        assert bool(effects) <= (code == "examining")
        if "snapshot_bad" in heard:
            assert code != ""

    @rule(code=CODES, pick=st.integers(0, 20), is_late=st.booleans())
    def answer(self, code: str, pick: int, is_late: bool) -> None:
        known = self.all if is_late else [*self.open.values()]
        if not known:
            return
        work = known[pick % len(known)]
        was_open = self.open.pop(work.task, None) is not None or work.task in self.lost
        shards = () if code else (Digest(PACK.shards[0]),)
        found = self.machine.done(Examined(work.task, work.lease, code, "", shards), self.now)  # type: ignore[arg-type]
        assert found is None or was_open
        if found is not None:
            assert (found.lease, found.snapshot) == (work.lease, wire.digest(wire.encode(work.resume.manifest)))
            self.answered.setdefault((found.lease, found.snapshot), set()).add(code)
            assert code or PACK.shards[0] in self.record.chunks[work.lease[1]].opened

    @rule(pick=st.integers(0, 20))
    def lose(self, pick: int) -> None:
        """The answer never comes: after its patience another look may begin."""
        if self.open:
            task = [*self.open][pick % len(self.open)]
            self.lost.add(task)
            del self.open[task]

    @rule(seconds=st.sampled_from([1, 30, 200]))
    def wait(self, seconds: int) -> None:
        self.now = Micros(self.now + seconds * SECOND)

    @rule(chunk=TASKS)
    def end(self, chunk: int) -> None:
        effects = self.machine.ended(chunk)
        for effect in effects:
            assert isinstance(effect, Compute) and isinstance(effect.work, Stop)
            self.open.pop(effect.work.task, None)
            self.lost.discard(effect.work.task)
        self.epochs[chunk] += 1

    @invariant()
    def few_looks(self) -> None:
        for chunk in range(CHUNKS):
            assert sum(work.lease[1] == chunk for work in self.open.values()) <= 1
            for epoch in range(1, self.epochs[chunk] + 1):
                assert sum(work.lease[1:] == (chunk, epoch) for work in self.all) <= EXAMINED_MAX
        assert len(self.machine.known) <= CHUNKS


Looking.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLooking = Looking.TestCase


def test_patience_grows_with_the_bytes_and_ends_with_the_longest_notice() -> None:
    assert [patience(size) // SECOND for size in (0, 10 << 20, 60 << 20, 1 << 40)] == [20, 30, 80, 120]
    assert GRACE > 0


def let_go(record: JobRecord, newest: Manifest | None) -> list[Effect]:
    """What a steward that was just started lets go of."""
    known = (b"", newest) if newest is not None else None
    return Examinations(record, b"").let_go(lambda _: known)


def test_shards_are_kept_while_the_newest_snapshot_needs_them() -> None:
    record = job(1)
    (chunk,) = record.chunks
    other = Pack(1, 1, "copy", 1, 3, (b"\x09" * 32,))
    shards, both = [PACK.shards[0], other.shards[0]], manifest(0, 1, 1, PACK, other)
    chunk.opened = list(shards)
    assert let_go(record, both) == [] and chunk.opened == shards
    assert let_go(record, manifest(0, 2, 1, other)) == [Compute(LetGo((Digest(PACK.shards[0]),)))]
    assert chunk.opened == shards[1:]
    assert let_go(record, None) == [Compute(LetGo((Digest(other.shards[0]),)))] and not chunk.opened
    changes: tuple[Literal["accepted", "failed"], ...] = ("accepted", "failed")
    for change in changes:
        chunk.opened, chunk.state = list(shards), change
        assert len(let_go(record, both)) == 1 and not chunk.opened
    chunk.opened, chunk.state, record.state = list(shards), "waiting", "cancelled"
    assert len(let_go(record, both)) == 1 and not chunk.opened


def test_the_stewards_receipts_stand_beside_the_others_or_in_their_place_where_there_are_too_many() -> None:
    for count in (1, 16):
        packs = tuple(coded(number) for number in range(count))
        shown = manifest(0, 1, 1, *packs)
        holders = tuple(
            PackHolders(tuple((at, receipt(HOLDER, "net", pack.shards[at], 10, 99)) for at in range(14)))
            for pack in packs
        )
        notice = SnapshotNotice(wire.encode(shown), Signature(HOLDER.peer, bytes(64)), holders)
        here = [shard for pack in packs for shard in pack.shards[3:11]]
        more = held_here(notice, shown, STEWARD, "net", here, 77)
        assert msgspec.structs.replace(more, holders=()) == msgspec.structs.replace(notice, holders=())
        is_small = len(wire.encode(notice)) + 8 * 250 * count <= NOTICE_BYTES_MAX
        assert is_small == (count == 1)
        for pack, told in zip(packs, more.holders, strict=True):
            own = [(at, kept) for at, kept in told.receipts if kept.signature.signer == STEWARD.peer]
            assert [at for at, _ in own] == list(range(3, 11))
            assert all(is_receipt("net", kept, pack) and kept.shard == pack.shards[at] for at, kept in own)
            assert len(told.receipts) == (22 if is_small else 14)


def coded(number: int) -> Pack:
    return Pack(80, 10, "rs", 8, 14, tuple(bytes([number, at]) * 16 for at in range(14)))
