"""Attack 19: front-run a result or a challenge that was seen on its way."""

from __future__ import annotations

import pytest

from protocol import operations
from protocol.effects import Effect, Send
from protocol.errors import Refused, RemoteViolation
from protocol.messages import AuditCommit, RevealRequest, UnitsOpened, UnitsRequest
from protocol.operations import Claim
from tests.protocol.ledger_world import PROVIDERS, World, claim
from tests.protocol.test_steward import finish, start
from tests.protocol.test_unit_jobs import unit_spec
from tests.protocol.town import open_town
from tests.verifier.court import ESCROW, SECOND_AUDITOR, STRANGER, in_audit
from tests.verifier.unit_court import UnitCourt


def test_a_claim_for_anothers_lease_earns_nothing() -> None:
    world = World()
    escrow = world.leased()
    seen = claim(escrow)
    assert world.refused(seen, PROVIDERS[1]) == "not_signed"
    assert world.ok(seen, PROVIDERS[0])
    assert world.refused(Claim(escrow, 0, 1, b"x" * 32), PROVIDERS[1]) == "not_signed"
    assert world.ledger.escrows[escrow].chunks[0].provider == PROVIDERS[0].peer


def test_the_same_claim_first_is_still_the_providers() -> None:
    """Whoever hands it in earlier does its owner a service."""
    world = World()
    escrow = world.leased()
    signed = operations.signed_op("test", claim(escrow), PROVIDERS[0])
    assert world.ledger.apply(signed, world.time).status == "applied"
    assert world.ledger.apply(signed, world.time).status in ("applied", "refused")
    assert world.ledger.escrows[escrow].chunks[0].provider == PROVIDERS[0].peer


def test_openings_are_for_validators_and_go_to_nobody_else() -> None:
    town = open_town(providers=2, auditors=1)
    provider = town.citizens["p0"]
    town.citizens["p1"].is_dead = True
    start(town, unit_spec())
    town.run(lambda: any(lease.phase == "claimed" for lease in provider.provider.leases.values()))
    ((escrow, chunk, epoch),) = provider.provider.leases
    rival = town.citizens["p1"].identity.peer
    for message in (UnitsRequest(escrow, chunk, epoch, (0,)), RevealRequest(escrow, chunk, epoch)):
        with pytest.raises(RemoteViolation) as caught:
            provider.provider.receive(rival, message, town.now)
        assert caught.value.code == "out_of_turn"


def test_a_validator_gets_one_choice_of_units_and_none_before_the_claim_is_ordered() -> None:
    town = open_town(providers=1, auditors=1)
    provider, validator = town.citizens["p0"], town.citizens["validator"]
    validator.deaf = (UnitsOpened,)
    start(town, unit_spec(samples=2))
    town.run(lambda: any(lease.phase == "running" for lease in provider.provider.leases.values()))
    ((escrow, chunk, epoch),) = provider.provider.leases
    early = UnitsRequest(escrow, chunk, epoch, (0,))
    assert provider.provider.receive(validator.identity.peer, early, town.now) == [], "nothing is claimed yet"
    town.run(lambda: any(lease.phase == "claimed" for lease in provider.provider.leases.values()))
    answered = provider.provider.receive(validator.identity.peer, early, town.now)
    assert _opened(answered) == [0]
    assert _opened(provider.provider.receive(validator.identity.peer, early, town.now)) == [0], "asked again"
    other = UnitsRequest(escrow, chunk, epoch, (1,))
    with pytest.raises(RemoteViolation) as caught:
        provider.provider.receive(validator.identity.peer, other, town.now)
    assert caught.value.code == "equivocation"


def test_a_seal_by_somebody_who_was_not_drawn_does_not_count() -> None:
    court = in_audit()
    with pytest.raises(Refused) as refused:
        court.commit(b"x" * 32, STRANGER)  # type: ignore[arg-type]
    assert refused.value.code == "not_the_auditor"
    unit = UnitCourt(auditors=(SECOND_AUDITOR,)).begin().unfold()
    with pytest.raises(Refused) as refused:
        unit.hear(STRANGER, AuditCommit(ESCROW, 0, 1, b"x" * 32))
    assert refused.value.code == "not_the_auditor"


def test_the_honest_twin_is_paid() -> None:
    town = open_town(providers=2, auditors=1)
    record = start(town, unit_spec())
    finish(town, record)
    assert record.state == "settled"
    assert town.ledger.escrows[record.escrow].paid > 0


def _opened(effects: list[Effect]) -> list[int]:
    """Indices of the leaves in the one answer."""
    (answer,) = [effect.message for effect in effects if isinstance(effect, Send)]
    assert isinstance(answer, UnitsOpened)
    return [opening.leaf.index for opening in answer.openings]
