"""One judge and a claim for which its job takes evidence of trusted hardware; what it is shown, and what it says."""

from __future__ import annotations

from typing import Final

import msgspec

from protocol.effects import Emit
from protocol.jobspec import JobSpec
from protocol.proof import Hardware, Proof
from protocol.quote_messages import Evidence, Quote, binding
from tests.verifier.attestation.foundry import TDX_IMAGE, Foundry
from tests.verifier.court import ESCROW, PROVIDER, Court, job
from verifier import sampling
from verifier.bench import Caution

FOUNDRY: Final = Foundry()
CAUTION: Final = Caution(makers=FOUNDRY.makers)
PLACE: Final = (ESCROW, 0, 1)


def spec(image: bytes = TDX_IMAGE, audit_ppm: int = 0) -> JobSpec:
    proof = Proof("deterministic", hardware=(Hardware("tdx", (image,)),))
    return msgspec.structs.replace(job(audit_ppm), proof=proof)


def beacon(low: int, high: int) -> bytes:
    """One whose draw of this claim lies at or above `low` and below `high`, ppm."""
    tried = (bytes([first, second]) * 16 for first in range(256) for second in range(256))
    drawn = sampling.is_drawn
    return next(one for one in tried if drawn(one, *PLACE, high) and not drawn(one, *PLACE, low))


IN_BAND: Final = beacon(500_000, 1_000_000)
BELOW: Final = beacon(0, 500_000)


def court(beacon: bytes = IN_BAND, of: JobSpec | None = None, valid: int = 0, caution: Caution = CAUTION) -> Court:
    """A newcomer's claim, drawn for certain; evidence halves that."""
    found = Court(spec=of or spec(), valid=valid, caution=caution)
    found.beacon = beacon
    found.claim()
    found.know_spec()
    return found


def bound(court: Court) -> bytes:
    return binding(PROVIDER.peer, *PLACE, court.case.sealed, court.case.beacon)


def quote(evidence: Evidence | None) -> Quote:
    return Quote(*PLACE) if evidence is None else Quote(*PLACE, evidence)


def told(court: Court) -> list[str | int]:
    return [effect.fields["code"] for effect in court.effects if isinstance(effect, Emit) and effect.name == "quote"]
