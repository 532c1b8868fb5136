"""Evidence of trusted hardware on its way to a judge: a validator asks for it, the provider sends it inline.

It travels inside the message because all of it (a CPU's quote of 1 to 5 KiB, a report and a chain of 9 KiB per card)
fits: a blob would cost another round trip and a transfer that can fail. Spec: specs/40-attestation.md.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from protocol.audit_messages import ChunkIndex, Epoch
from protocol.operations import Hash, Reason
from protocol.units import PeerId

EVIDENCE_BYTES_MAX: Final = 60 * 1024
"""Bytes of all reports and chains of one claim: what one message of 64 KiB holds. Eight H100 and a CPU have 57."""

PART_BYTES_MAX: Final = 16 * 1024
"""Bytes of one quote, report or chain: three times the longest of those recorded from real machines."""

CARDS_MAX: Final = 8
"""Cards of one machine whose reports are sent."""

Report = Annotated[bytes, Meta(min_length=1, max_length=PART_BYTES_MAX)]
Chain = Annotated[bytes, Meta(max_length=PART_BYTES_MAX)]


class CpuQuote(Struct, frozen=True, forbid_unknown_fields=True):
    """What a virtual machine's own CPU signed."""

    kind: Literal["tdx", "sev-snp"]
    report: Report
    chain: Chain = b""
    """SEV-SNP: the certificates of the chip in PEM, in any order. TDX: empty, the quote holds its own."""


class GpuReport(Struct, frozen=True, forbid_unknown_fields=True):
    """What one card signed, and its certificates in PEM: the first card's all, of others those that it has not."""

    report: Report
    chain: Chain


class Evidence(Struct, frozen=True, forbid_unknown_fields=True):
    """All that one machine has to show for one claim."""

    cpu: CpuQuote
    cards: Annotated[tuple[GpuReport, ...], Meta(max_length=CARDS_MAX)] = ()

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        parts = [(self.cpu.report, self.cpu.chain), *((card.report, card.chain) for card in self.cards)]
        return sum(len(report) + len(chain) for report, chain in parts)


class QuoteRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="quote_request"):
    """A validator will have this claim executed again unless the provider's hardware vouches for the machine."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch


class Quote(Struct, frozen=True, forbid_unknown_fields=True, tag="quote"):
    """The provider's evidence; from a validator who found it good, the same message once more for the others."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    evidence: Evidence | UnsetType = UNSET
    why: Reason = ""
    """Why there is no evidence."""


def binding(provider: PeerId, escrow: bytes, chunk: int, epoch: int, sealed: bytes, beacon: bytes) -> bytes:
    """The 32 bytes that a quote for one claim carries. The beacon is newer than the claim: nothing can be prepared."""
    place = b"%s%d/%d" % (escrow, chunk, epoch)
    return hashlib.sha256(b"shoal/1\0attest\0" + provider + place + b"\0" + sealed + beacon).digest()
