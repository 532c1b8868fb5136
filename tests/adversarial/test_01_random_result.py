"""Attack 01: return a random or an empty result."""

from __future__ import annotations

import hashlib

import pytest

from protocol import wire
from protocol.completions import Fetched
from protocol.jobspec import Manifest
from protocol.units import Digest
from simulations.units import EXACT
from tests.verifier.court import GOOD, SECOND_AUDITOR, Court
from tests.verifier.unit_court import UNITS, UnitCourt, skipping, unit_job

RANDOM = Digest(hashlib.sha256(b"no work was done").digest())
EMPTY = wire.digest(wire.encode(Manifest(())))


def audited(claimed: Digest, found: Digest) -> tuple[str, str, bool]:
    """A claim of one output where every auditor finds another."""
    court = Court(auditors=(SECOND_AUDITOR,))
    court.beacon = b"\x03" * 32  # One that wants a single auditor at first.
    court.claim(output=claimed)
    court.know_spec()
    for number in range(2):
        court.commit(found, SECOND_AUDITOR)
        if not number:
            court.reveal(claimed)
            court.hear(SECOND_AUDITOR, Fetched(claimed, 10))
        court.open(found, SECOND_AUDITOR)
        if any("verdict" in repr(effect) for effect in court.effects):
            break
    return court.found()


@pytest.mark.parametrize("claimed", [RANDOM, EMPTY])
def test_a_result_that_was_not_computed_is_wrong(claimed: Digest) -> None:
    assert audited(claimed, GOOD) == ("wrong", "hash_differs", True)


def test_units_that_were_never_computed_are_fraud() -> None:
    court = UnitCourt(conduct=skipping(*range(UNITS)))
    assert court.judged(EXACT, EXACT) == ("fraud", "unit_differs", True)


def test_an_output_beside_the_trace_is_a_severe_fault_even_when_it_is_not_drawn() -> None:
    court = UnitCourt(unit_job(audit_ppm=0), valid=10**9)
    empty = wire.encode(Manifest(()))
    court.made.output, court.made.blobs[EMPTY] = EMPTY, empty
    court.begin().show()
    assert court.found() == ("severe", "output_not_last_state", False)


def test_the_honest_twin_is_accepted() -> None:
    assert audited(GOOD, GOOD) == ("accept", "hash_equal", True)
    assert UnitCourt().judged(EXACT) == ("accept", "units_equal", True)
