"""All that a machine shows for one claim, read and held against what its job allows. Spec: specs/40-attestation.md."""

from __future__ import annotations

from protocol.proof import Hardware
from protocol.quote_messages import EVIDENCE_BYTES_MAX, CpuQuote, Evidence
from protocol.units import Micros
from verifier.attestation import policy
from verifier.attestation.chains import read_pem
from verifier.attestation.fields import malformed
from verifier.attestation.gpu import read_gpu
from verifier.attestation.makers import Makers
from verifier.attestation.policy import Policy
from verifier.attestation.quote import Quote
from verifier.attestation.snp import parse_snp, read_snp
from verifier.attestation.tdx import parse_tdx, read_tdx


def read(evidence: Evidence, makers: Makers, now: Micros) -> tuple[Quote, ...]:
    """The checked quotes, the CPU's first. Raises `Refused`. `now`: µs since 1970."""
    if evidence.size > EVIDENCE_BYTES_MAX:
        raise malformed(f"evidence of {evidence.size} bytes, {EVIDENCE_BYTES_MAX} are allowed")
    roots = makers.roots.get("nvidia", frozenset())
    first = evidence.cards[0].chain if evidence.cards else b""
    cards = [
        read_gpu(card.report, card.chain or first, roots, makers.revoked, now, first if card.chain else b"")
        for card in evidence.cards
    ]
    return (_read_cpu(evidence.cpu, makers, now), *cards)


def _read_cpu(cpu: CpuQuote, makers: Makers, now: Micros) -> Quote:
    roots = makers.roots.get(cpu.kind, frozenset())
    if cpu.kind == "tdx":
        return read_tdx(cpu.report, roots, makers.revoked, now)
    return read_snp(cpu.report, read_pem(cpu.chain), roots, makers.revoked, now)


def measurement(cpu: CpuQuote) -> bytes:
    """The image that a machine says it runs, unchecked: for its owner. Raises `Refused` (`malformed_proof`)."""
    said = parse_tdx(cpu.report)[0] if cpu.kind == "tdx" else parse_snp(cpu.report)
    return said.measurement


def policy_of(hardware: tuple[Hardware, ...]) -> Policy:
    """What a job takes for evidence."""
    return Policy({one.kind: frozenset(one.images) for one in hardware}, {one.kind: one.versions for one in hardware})


def check(evidence: Evidence, hardware: tuple[Hardware, ...], bound: bytes, makers: Makers, now: Micros) -> None:
    """That a claim has what its job takes for evidence. Raises `Refused` with the code of what does not hold."""
    policy.check(policy_of(hardware), read(evidence, makers, now), bound)
