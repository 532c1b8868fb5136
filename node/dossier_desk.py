"""What was opened of a job's claims: a validator hands out what its judge kept, the job's steward collects it.

The steward asks one validator after the other, until one has what the verdict rests on: judges may have heard different
auditors. Nobody else is told, as leaves name the digests of a job's states. Spec: specs/11-verification.md.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from msgspec import UnsetType

from node import kept_receipts
from node.control import Emit
from node.control_methods import JobParams
from node.parts import Parts
from node.requests import Requests
from protocol import dossier, dossier_file, wire
from protocol.dossier import PIECE_BYTES, QUESTION, Dossier, DossierPiece, DossierRequest
from protocol.dossier_file import SPEC_BYTES_MAX, OpenedClaim, OpenedJob
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.operations import Verdict
from protocol.units import MIB, Digest, JobId, PeerId
from verifier.dossiers import key_of

ITEM_BYTES: Final = 1 * MIB
"""Of one item on the control socket."""

NOTHING: Final = "no_dossier"
"""The code of a validator that keeps nothing of a claim."""

log: Final = logging.getLogger("shoal.dossiers")

_request: Final = wire.decoder(DossierRequest)
_piece: Final = wire.decoder(DossierPiece)


class DossierDesk:
    """Answers stewards, and asks for the jobs of this one."""

    def __init__(self, parts: Parts, requests: Requests) -> None:
        self._parts = parts
        self._requests = requests
        requests.serve(QUESTION, _request, self.answer)

    async def answer(self, asker: PeerId, question: DossierRequest) -> DossierPiece:
        """A piece of what this node's judge kept. Refused: the job is another's. Unavailable: there is nothing."""
        ledger = self._parts.ledger()
        escrow = ledger.escrows.get(question.escrow) or ledger.bygone.get(question.escrow)
        if escrow is None or escrow.steward != asker:
            raise Refused("only a job's steward is told what was opened of it", code="not_the_steward")
        place = (question.escrow, question.chunk, question.epoch)
        data = self._parts.records.get(key_of(place)) or b""
        if question.offset >= len(data):
            raise Unavailable(
                f"nothing is kept of chunk {question.chunk} epoch {question.epoch} from byte {question.offset} on",
                code=NOTHING,
                fix="Ask another validator: judges keep what was opened for two weeks.",
            )
        return DossierPiece(len(data), data[question.offset : question.offset + PIECE_BYTES])

    async def collect(self, params: JobParams, emit: Emit) -> None:
        """`job.units`: the job's file (`protocol.dossier_file`), piece by piece under `data`."""
        record = self._parts.steward.job(JobId(wire.raw_id("job", params.job, 16))).record
        if not record.escrow:
            raise Refused("the job has no escrow yet: nothing was opened", code="not_ready", fix="Confirm the job.")
        blobs, digest = self._parts.blobs, Digest(record.spec_digest)
        spec = blobs.read(digest, SPEC_BYTES_MAX) if blobs.has(digest) else wire.encode(record.spec)
        head = OpenedJob(self._parts.config.network, record.escrow, spec)
        await _send(dossier_file.frame(head), emit)
        silent = set[PeerId]()
        for verdict in self._verdicts(record.escrow):
            await _send(dossier_file.frame(await self._claim(verdict, silent)), emit)

    def _verdicts(self, escrow: bytes) -> Sequence[Verdict]:
        """In the ledger's order, out of the receipts that this node was sent; one for each claim."""
        listed = (operation for _, operation in kept_receipts.applied(self._parts, escrow))
        found = {(verdict.chunk, verdict.epoch): verdict for verdict in listed if isinstance(verdict, Verdict)}
        return tuple(found.values())

    async def _claim(self, verdict: Verdict, silent: set[PeerId]) -> OpenedClaim:
        """What one of the validators kept; of several, what the verdict rests on. Who is `silent` is left out."""
        found, why = b"", "no validator answers"
        for peer in self._parts.ledger().validators.peers:
            if peer in silent:
                continue
            try:
                data = await self._ask(peer, verdict)
                rests = _bears(dossier.decode(data, peer), verdict, peer)
            except (Refused, Unavailable, RemoteViolation) as error:
                log.info("%s shows nothing of chunk %d: %s", peer_text(peer), verdict.chunk, error.detail)
                why = f"{peer_text(peer)}: {error.detail}"[:512]
                if isinstance(error, Unavailable) and error.code != NOTHING:
                    silent.add(peer)
                continue
            if rests:
                return OpenedClaim(verdict.chunk, verdict.epoch, data)
            found = found or data
        return OpenedClaim(verdict.chunk, verdict.epoch, found, "" if found else why)

    async def _ask(self, peer: PeerId, verdict: Verdict) -> bytes:
        """The whole of what one validator kept, by pieces."""
        place, data, total = (verdict.escrow, verdict.chunk, verdict.epoch), b"", 1
        while len(data) < total:
            question = DossierRequest(*place, offset=len(data))
            if peer == self._parts.identity.peer:
                piece = await self.answer(peer, question)
            else:
                piece = await self._requests.ask(peer, QUESTION, question, _piece)
            if data and piece.total != total:
                raise RemoteViolation(peer, f"a dossier of {total} bytes that has {piece.total} now", code="bad_piece")
            total = piece.total
            if len(piece.data) != min(PIECE_BYTES, total - len(data)):  # Shorter ones would take a day.
                what = f"a piece of {len(piece.data)} bytes from byte {len(data)} of {total} on"
                raise RemoteViolation(peer, what, code="bad_piece")
            data += piece.data
        return data


def _bears(found: Dossier, verdict: Verdict, peer: PeerId) -> bool:
    """Whether a verdict rests on what is in a peer's dossier: the opened output, and the auditor that it names."""
    if (found.escrow, found.chunk, found.epoch) != (verdict.escrow, verdict.chunk, verdict.epoch):
        raise RemoteViolation(peer, "a dossier of another claim", code="wrong_place")
    is_opened = not isinstance(found.reveal, UnsetType) and found.reveal.output == verdict.output
    heard = any((one.auditor, one.output) == (verdict.auditor, verdict.evidence) for one in found.heard)
    return is_opened and (heard or not verdict.is_audited)


async def _send(data: bytes, emit: Emit) -> None:
    for start in range(0, len(data), ITEM_BYTES):
        await emit({"data": data[start : start + ITEM_BYTES]})
