"""node.dossier_desk: who is told what was opened, piece by piece, and whose word of several a steward takes."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec.structs import replace

from node.blobs import BlobStore
from node.control_methods import JobParams
from node.dossier_desk import DossierDesk
from node.parts import Parts
from node.requests import Requests
from node.store import RecordStore
from node.views import Plain, job_text
from protocol import dossier_file, wire
from protocol.audit_messages import Reveal
from protocol.dossier import PIECE_BYTES, QUESTION, Dossier, DossierPiece, DossierRequest, Heard
from protocol.dossier_file import OpenedClaim, OpenedJob
from protocol.errors import Refused, Unavailable
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.jobspec import Chunk, JobSpec
from protocol.messages import Outcome, Receipt, Receipts
from protocol.operations import Signature, Verdict, signed_op
from protocol.units import PeerId
from tests.protocol.ledger_world import CHAIN, GENESIS, OTHER, STEWARD, VALIDATOR, World, verdict
from tests.verifier.beacon_blocks import header_at
from verifier.dossiers import key_of

SECOND = Identity(bytes([77]) * 32)
SPEC = JobSpec("x", "python", ("a",), (Chunk(),))
JOB = JobParams(job_text(bytes(16)))


class Line:
    """Questions of one node to the desks of others."""

    def __init__(self, asker: PeerId, town: Town) -> None:
        self._asker = asker
        self._town = town

    def serve(self, name: str, request: object, answer: object) -> None:
        assert name == QUESTION

    async def ask(self, peer: PeerId, name: str, question: DossierRequest, reply: object) -> DossierPiece:
        self._town.asked.append(peer)
        if peer in self._town.away:
            raise Unavailable("no path to it", code="no_path")
        piece = await self._town.desks[peer].answer(self._asker, question)
        return DossierPiece(piece.total, piece.data[: self._town.piece_max])


class Town:
    """A steward with a job, two validators, and somebody else, each at a desk of its own."""

    def __init__(self, folder: Path) -> None:
        validators = ((VALIDATOR.peer, 1), (SECOND.peer, 1))
        self.world = World(Genesis(CHAIN, GENESIS.time, validators, GENESIS.balances))
        self.escrow = self.world.claimed()
        self.desks: dict[PeerId, DossierDesk] = {}
        self.records: dict[PeerId, RecordStore] = {}
        self.away: set[PeerId] = set()
        self.asked: list[PeerId] = []
        self.piece_max = PIECE_BYTES
        """Bytes of a piece that comes over a line."""
        self.job = SimpleNamespace(escrow=self.escrow, spec=SPEC, spec_digest=wire.digest(wire.encode(SPEC)))
        for peer in (STEWARD.peer, VALIDATOR.peer, SECOND.peer, OTHER.peer):
            self.records[peer] = RecordStore(folder / f"{peer.hex()}.db")
            parts = SimpleNamespace(
                identity=SimpleNamespace(peer=peer), ledger=lambda: self.world.ledger, records=self.records[peer],
                blobs=BlobStore(folder / peer.hex(), 1 << 20), config=SimpleNamespace(network=CHAIN),
                steward=SimpleNamespace(job=lambda job: SimpleNamespace(record=self.job)),
            )  # fmt: skip
            self.desks[peer] = DossierDesk(cast("Parts", parts), cast("Requests", Line(peer, self)))

    def judged(self, chunk: int = 0, *, is_applied: bool = True) -> Verdict:
        """A verdict, of which the steward has the receipt."""
        said = replace(verdict(self.escrow, chunk=chunk, is_audited=True), output=b"o" * 32, evidence=b"e" * 32)
        signed = signed_op(CHAIN, said, VALIDATOR)
        outcome = Outcome(signed.op_id, "applied" if is_applied else "refused", "ok", "")
        one = Receipts(header_at(9), (Signature(VALIDATOR.peer, bytes(64)),), (signed,), (Receipt(outcome, 0, ()),))
        key = f"receipt/{self.escrow.hex()}/{9 + chunk:012d}/{0:06d}"
        self.records[STEWARD.peer].put(key, wire.encode(one))
        return said

    def keep(self, peer: PeerId, chunk: int = 0, heard: tuple[Heard, ...] = ()) -> bytes:
        """What a judge kept."""
        reveal = Reveal(self.escrow, chunk, 1, b"o" * 32, 0, bytes(32))
        data = wire.encode(Dossier(self.escrow, chunk, 1, reveal=reveal, heard=heard))
        self.records[peer].put(key_of((self.escrow, chunk, 1)), data)
        return data

    async def collected(self) -> list[OpenedJob | OpenedClaim]:
        """The file that the steward makes."""
        data = bytearray()

        async def emit(item: Plain) -> None:
            piece = item["data"]
            assert isinstance(piece, bytes)
            data.extend(piece)

        await self.desks[STEWARD.peer].collect(JOB, emit)
        return list(dossier_file.frames(io.BytesIO(bytes(data)).read))


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


RIGHT = Heard(VALIDATOR.peer, "work", bytes(32), bytes(32), b"e" * 32, "ok", bytes(64_000))
OTHERS = replace(RIGHT, auditor=SECOND.peer)


async def test_the_steward_gets_all_of_it_by_pieces_and_nobody_else_any(town: Town) -> None:
    data = town.keep(VALIDATOR.peer, heard=(RIGHT, OTHERS))
    desk, question = town.desks[VALIDATOR.peer], DossierRequest(town.escrow, 0, 1)
    first = await desk.answer(STEWARD.peer, question)
    assert (first.total, first.data) == (len(data), data[:PIECE_BYTES])
    rest = await desk.answer(STEWARD.peer, replace(question, offset=2 * PIECE_BYTES))
    assert rest.data == data[2 * PIECE_BYTES :]
    for asker, asked in ((OTHER.peer, question), (STEWARD.peer, replace(question, escrow=bytes(32)))):
        with pytest.raises(Refused) as caught:
            await desk.answer(asker, asked)
        assert caught.value.code == "not_the_steward"
    for asked in (replace(question, offset=len(data)), replace(question, epoch=2)):
        with pytest.raises(Unavailable, match="nothing is kept of chunk 0") as late:
            await desk.answer(STEWARD.peer, asked)
        assert late.value.code == "no_dossier" and late.value.fix


async def test_the_file_has_the_specification_and_what_the_verdict_rests_on(town: Town) -> None:
    """Of two judges who heard different auditors the one is taken who heard whom the verdict names."""
    town.judged()
    town.keep(VALIDATOR.peer, heard=(OTHERS,))
    right = town.keep(SECOND.peer, heard=(OTHERS, RIGHT))
    head, claim = await town.collected()
    assert head == OpenedJob(CHAIN, town.escrow, wire.encode(SPEC))
    assert claim == OpenedClaim(0, 1, right)


async def test_where_nobody_has_what_is_wanted_the_first_one_s_is_shown(town: Town) -> None:
    town.judged()
    shown = {peer: town.keep(peer, heard=(OTHERS,)) for peer in (VALIDATOR.peer, SECOND.peer)}
    _, claim = await town.collected()
    assert claim == OpenedClaim(0, 1, shown[town.asked[0]])


async def test_who_does_not_answer_is_asked_once_and_the_reason_is_written_down(town: Town) -> None:
    town.judged(0)
    town.judged(1)
    town.judged(2, is_applied=False)
    town.away = {VALIDATOR.peer, SECOND.peer}
    _, *claims = await town.collected()
    assert [(one.chunk, one.dossier) for one in claims if isinstance(one, OpenedClaim)] == [(0, b""), (1, b"")]
    assert isinstance(claims[0], OpenedClaim) and "no path to it" in claims[0].why
    assert sorted(town.asked) == sorted(town.away)
    town.away = set()
    _, *claims = await town.collected()
    assert isinstance(claims[0], OpenedClaim) and "nothing is kept of chunk 0 epoch 1" in claims[0].why
    assert len(town.asked) == 6, "who keeps nothing of one claim may have something of the next"


async def test_rubbish_is_not_handed_on(town: Town) -> None:
    town.judged()
    for peer in (VALIDATOR.peer, SECOND.peer):
        town.records[peer].put(key_of((town.escrow, 0, 1)), b"rubbish")
    _, claim = await town.collected()
    assert isinstance(claim, OpenedClaim) and not claim.dossier and claim.why
    moved = wire.encode(Dossier(town.escrow, 1, 1))
    town.records[SECOND.peer].put(key_of((town.escrow, 0, 1)), moved)
    _, claim = await town.collected()
    assert isinstance(claim, OpenedClaim) and not claim.dossier


async def test_who_hands_it_out_in_crumbs_is_not_waited_for(town: Town) -> None:
    """Two megabytes byte by byte would be two million questions."""
    town.judged()
    for peer in (VALIDATOR.peer, SECOND.peer):
        town.keep(peer, heard=(RIGHT,))
    town.piece_max = 1
    _, claim = await town.collected()
    assert isinstance(claim, OpenedClaim) and not claim.dossier and "a piece of 1 bytes from byte 0" in claim.why
    assert len(town.asked) == 2


async def test_a_job_that_was_not_confirmed_has_no_file(town: Town) -> None:
    town.job.escrow = b""
    with pytest.raises(Refused) as caught:
        await town.collected()
    assert caught.value.code == "not_ready"
