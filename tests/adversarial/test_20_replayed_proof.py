"""Attack 20: hand in a proof or a message once more that was honest earlier."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from protocol import operations
from protocol.errors import Refused
from protocol.messages import Reveal
from protocol.operations import Claim
from protocol.provider_trace import committed
from simulations import units
from simulations.units import EXACT
from tests.protocol.ledger_world import PROVIDERS, World, claim
from tests.verifier.court import ESCROW, GOOD, PROVIDER, SALT, Court
from tests.verifier.unit_court import UNITS, UnitCourt, unit_job
from verifier import challenge


def test_answers_for_an_earlier_lease_are_refused_by_name() -> None:
    court = UnitCourt().begin()
    effects = court.answer()
    court.judge.cases[ESCROW, 0, 2] = court.judge.cases.pop((ESCROW, 0, 1))
    court.escrow.chunks[0].epoch = 2
    old = (effects, Reveal(ESCROW, 0, 1, court.made.output, court.made.size, SALT))
    for message in old:
        with pytest.raises(Refused) as caught:
            court.hear(PROVIDER, message)
        assert caught.value.code == "replay"


def test_an_old_opening_under_a_new_epoch_does_not_open_the_new_seal() -> None:
    """The salt is of the lease: what opened epoch 1 opens nothing else."""
    court = Court(valid=10**9)
    court.claim()
    court.escrow.chunks[0].sealed = operations.seal(PROVIDER.peer, b"another salt of epoch 2".ljust(32), GOOD)
    court.judge.cases.clear()
    court.judge.resume(court.now)
    court.know_spec()
    court.reveal()
    assert court.found() == ("wrong", "seal_mismatch", False)


def test_the_trace_of_another_job_does_not_fit_this_ones_schedule() -> None:
    """Honest work, of a job that differs in its name only, sold a second time."""
    court = UnitCourt(unit_job(samples=UNITS))
    other = UnitCourt(msgspec.structs.replace(unit_job(samples=UNITS), name="yesterday"))
    court.made, court.provided = other.made, other.provided
    assert court.judged(EXACT, EXACT) == ("fraud", "bad_schedule", True)


def test_the_trace_of_another_chunk_neither() -> None:
    court = UnitCourt(unit_job(samples=UNITS))
    court.made = units.execute(replace(court.run(), chunk=1))
    court.provided.trace = committed(court.made.trace, UNITS, PROVIDER.peer, court.made.blobs.__getitem__)
    court.provided.blobs = dict(court.made.blobs)
    assert court.judged(EXACT, EXACT) == ("fraud", "bad_schedule", True)


def test_a_claim_counts_once_on_the_ledger() -> None:
    world = World()
    escrow = world.claimed()
    assert world.refused(Claim(escrow, 0, 1, b"y" * 32), PROVIDERS[0]) == "wrong_state"
    assert world.refused(claim(escrow, epoch=2), PROVIDERS[0]) == "future_epoch"


def test_every_lease_has_its_own_challenge() -> None:
    seeds = {challenge.seed((ESCROW, 0, epoch), b"s" * 32, b"t" * 32, b"b" * 32) for epoch in range(1, 10)}
    assert len(seeds) == 9


def test_the_honest_twin_echoes_of_the_network_are_harmless() -> None:
    court = UnitCourt().begin()
    for _ in range(2):
        answer = court.answer()
        court.hear(PROVIDER, answer)
        asked = court.effects
        assert court.hear(PROVIDER, answer) == []
        court.effects = asked
    assert UnitCourt().judged(EXACT) == ("accept", "units_equal", True)
