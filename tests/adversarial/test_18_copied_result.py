"""Attack 18: copy another executor's result."""

from __future__ import annotations

from protocol import operations, wire
from protocol.messages import Reveal
from protocol.proof import Trace
from protocol.trace import decode_trace
from protocol.units import Digest
from simulations import units
from simulations.units import EXACT, Conduct
from tests.verifier.court import ESCROW, GOOD, PROVIDER, SALT, STRANGER, Court
from tests.verifier.unit_court import UNITS, UnitCourt, unit_job
from verifier.trace import root


def test_a_seal_of_another_cannot_be_opened() -> None:
    """The copier claims the very bytes that it saw, and even learns salt and output later."""
    court = Court(valid=10**9)
    court.claim()
    court.escrow.chunks[0].sealed = operations.seal(STRANGER.peer, SALT, GOOD)
    court.judge.cases.clear()
    court.judge.resume(court.now)
    court.know_spec()
    court.reveal(GOOD)
    assert court.found() == ("wrong", "seal_mismatch", False)


def test_a_root_of_another_cannot_be_opened_without_its_leaves() -> None:
    honest = UnitCourt()
    court = UnitCourt()
    court.provided.trace.root = honest.provided.trace.root
    court.begin()
    court.wait(60_000_000)
    assert court.found() == ("withheld", "withheld", False)


def test_the_right_output_with_invented_intermediates_is_fraud() -> None:
    """A copier of a later lease knows the output, the last state in it, and nothing of what lies between."""
    court = UnitCourt(unit_job(samples=UNITS))
    last = court.made.blobs
    invented = units.execute(court.run(), Conduct(skips=lambda index: True))
    trace = decode_trace(invented.blobs[invented.trace], PROVIDER.peer)
    true = decode_trace(court.made.blobs[court.made.trace], PROVIDER.peer)
    ends = Trace((*trace.leaves[:-1], true.leaves[-1]), trace.effects)
    body = wire.encode(ends)
    court.provided.blobs = {**last, **invented.blobs, wire.digest(body): body}
    court.provided.trace.digest, court.provided.trace.root = Digest(wire.digest(body)), root(ends)
    assert court.judged(EXACT, EXACT) == ("fraud", "unit_differs", True)


def test_nothing_that_a_claim_shows_can_be_copied() -> None:
    """Two executors with the same result claim different bytes."""
    seals = {operations.seal(identity.peer, SALT, GOOD) for identity in (PROVIDER, STRANGER)}
    assert len(seals) == 2


def test_the_honest_twin_is_accepted() -> None:
    assert UnitCourt(unit_job(samples=UNITS)).judged(EXACT) == ("accept", "units_equal", True)
    court = Court(valid=10**9)
    court.claim()
    court.know_spec()
    court.hear(PROVIDER, Reveal(ESCROW, 0, 1, GOOD, 10, SALT))
    assert court.fetches()
