"""What a judge keeps of one claim that it has decided: everything that was opened to it.

Nothing in it is taken on trust: leaves lie under the root in the provider's claim, the results of the auditor that a
verdict names hash to the verdict's evidence, and a beacon is made of operations of certified blocks
(`verifier.recheck`). A file of dossiers lets anybody check a job beside its receipt. Spec: specs/11-verification.md.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from protocol import wire
from protocol.audit_messages import ChunkIndex, Epoch, Reveal, UnitsOpened
from protocol.errors import RemoteViolation
from protocol.jobspec import Bytes32
from protocol.messages import Receipts
from protocol.operations import Hash, Key, Reason
from protocol.units import KIB, MIB, PeerId

RESULTS_MAX: Final = 64 * KIB
"""Bytes of an auditor's encoded `Results`, as a judge takes them."""

HEARD_MAX: Final = 32
"""Executions by others of one claim: three hearings of five auditors, and those who were outweighed in them."""

PARTS_MAX: Final = 128
"""Pieces of blocks with the parts of one beacon: 50 validators seal and open, each in a block of its own at worst."""

DOSSIER_BYTES_MAX: Final = 2 * MIB
"""Bytes of an encoded dossier: 130 KB of leaves, 64 KiB of results of each auditor, half a MiB of beacon."""

QUESTION: Final = "dossier"
"""Name of the question with which a job's steward asks a validator for a piece of one."""

PIECE_BYTES: Final = 60 * KIB
"""Bytes of a dossier in one answer: with its head it fits a frame of 64 KiB."""


class Heard(Struct, frozen=True, forbid_unknown_fields=True):
    """One execution by an auditor that counted: what it sealed, and what it opened."""

    auditor: Key
    purpose: Literal["work", "finish", "check"]
    """Of the work itself, of the output files of its last state, or of the job's own check."""
    sealed: Hash
    salt: Bytes32
    output: Bytes32
    """Digest of an output, or of `results`; zeros where the execution ended with an error."""
    reason: Reason
    results: Annotated[bytes, Meta(max_length=RESULTS_MAX)] = b""
    """Of a replay of units: its encoded `protocol.proof.Results`."""


class Dossier(Struct, frozen=True, forbid_unknown_fields=True):
    """Of one claim."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    reveal: Reveal | UnsetType = UNSET
    """The provider's opening, with the leaves behind the audited units and the last one."""
    units: UnitsOpened | UnsetType = UNSET
    """The leaves before them, and the claimed effects of all units."""
    heard: Annotated[tuple[Heard, ...], Meta(max_length=HEARD_MAX)] = ()
    """In the order in which they counted."""
    beacon: Annotated[tuple[Receipts, ...], Meta(max_length=PARTS_MAX)] = ()
    """The operations that made the beacon, with their proofs. None: the beacon is the block of the claim."""


class DossierRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A piece of what a validator keeps of one claim, from `offset` on."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    offset: Annotated[int, Meta(ge=0, le=DOSSIER_BYTES_MAX)] = 0


class DossierPiece(Struct, frozen=True, forbid_unknown_fields=True):
    """The piece, and how long the whole is."""

    total: Annotated[int, Meta(ge=1, le=DOSSIER_BYTES_MAX)]
    data: Annotated[bytes, Meta(min_length=1, max_length=PIECE_BYTES)]


_decoder: Final = wire.decoder(Dossier)


def decode(data: bytes, sender: PeerId) -> Dossier:
    """The dossier in these bytes. Raises `RemoteViolation`: `over_limit`, `malformed`, `not_canonical`, or
    `wrong_place` where a part of it is about another claim than the rest."""
    dossier = wire.decode(data, _decoder, sender, DOSSIER_BYTES_MAX)
    place = (dossier.escrow, dossier.chunk, dossier.epoch)
    for part in (dossier.reveal, dossier.units):
        if not isinstance(part, UnsetType) and (part.escrow, part.chunk, part.epoch) != place:
            raise RemoteViolation(sender, "a dossier with a part about another claim", code="wrong_place")
    return dossier
