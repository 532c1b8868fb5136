"""Operations go out until a verified receipt comes; each outcome is heard once."""

from __future__ import annotations

import pytest

from protocol import operations
from protocol.effects import Effect, Send, Store, Wake
from protocol.errors import RemoteViolation
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.ledger import Ledger
from protocol.ledger_client import RESUBMIT, LedgerClient, Ordered
from protocol.messages import Receipts, Submit
from protocol.operations import EscrowClose, Transfer
from protocol.units import CREDIT, SECOND, Micros
from verifier.orderer import Orderer

VALIDATOR, OWNER = Identity(b"v" * 32), Identity(b"o" * 32)
NOW = Micros(1_800_000_000 * SECOND)
GENESIS = Genesis("chain", NOW, ((VALIDATOR.peer, 1),), (("U", OWNER.peer, CREDIT),))
TRANSFER = operations.signed_op("chain", Transfer(OWNER.peer, 0, 0, VALIDATOR.peer, 5), OWNER)


class Ear:
    """Remembers what it heard."""

    def __init__(self) -> None:
        self.events: list[Ordered] = []

    def ordered(self, event: Ordered, now: Micros) -> list[Effect]:
        self.events.append(event)
        return []


def receipts_for(orderer: Orderer, operation: operations.SignedOp, now: Micros) -> list[Receipts]:
    effects = [*orderer.receive(OWNER.peer, Submit((operation,)), now), *orderer.tick(Micros(now + SECOND))]
    return [effect.message for effect in effects if isinstance(effect, Send) and isinstance(effect.message, Receipts)]


def test_an_operation_is_sent_again_until_its_receipt_comes() -> None:
    client, ear = LedgerClient(GENESIS.validator_set), Ear()
    client.listeners.append(ear)
    assert Send(VALIDATOR.peer, Submit((TRANSFER,))) in client.submit(TRANSFER, NOW)
    assert not any(isinstance(effect, Send) for effect in client.tick(Micros(NOW + RESUBMIT - 1)))
    assert any(isinstance(effect, Send) for effect in client.tick(Micros(NOW + RESUBMIT)))
    receipts = receipts_for(Orderer(VALIDATOR, GENESIS, []), TRANSFER, NOW)
    for message in (receipts[0], receipts[0]):
        client.receive(VALIDATOR.peer, message, NOW)
    assert [event.is_applied for event in ear.events] == [True]
    assert client.tick(Micros(NOW + 10 * RESUBMIT)) == []


def test_who_submits_for_another_machine_wakes_the_client() -> None:
    client = LedgerClient(GENESIS.validator_set)
    wakes = [effect for effect in client.submit(TRANSFER, NOW) if isinstance(effect, Wake)]
    assert wakes == [Wake(Micros(NOW + RESUBMIT), client)]


def test_the_ledger_clock_goes_on_without_receipts() -> None:
    """Found by the simulator: after an outage, peers without receipts disagreed about the ledger's time for ever."""
    ledger = Ledger(GENESIS)
    client = LedgerClient(GENESIS.validator_set, lambda: ledger)
    later = Micros(NOW + 100 * SECOND)
    assert client.ledger_now(later) == later, "without a block there is only our own clock"
    ledger.advance(NOW + 5 * SECOND)
    ledger.commit(bytes(32))
    assert client.ledger_now(later) == NOW + 5 * SECOND
    assert client.ledger_now(Micros(later + SECOND)) == NOW + 6 * SECOND


def test_what_was_refused_first_is_heard_when_it_is_applied() -> None:
    orderer, client, ear = Orderer(VALIDATOR, GENESIS, []), LedgerClient(GENESIS.validator_set), Ear()
    client.listeners.append(ear)
    opened = operations.EscrowOpen(OWNER.peer, 0, 0, bytes(16), 100, bytes(32), OWNER.peer, NOW + 10**12)
    opening = operations.signed_op("chain", opened, OWNER)
    closing = operations.signed_op("chain", EscrowClose(opening.op_id), OWNER)
    for number, operation in enumerate((closing, opening, closing)):
        for message in receipts_for(orderer, operation, Micros(NOW + 2 * number * SECOND)):
            stored = client.receive(VALIDATOR.peer, message, NOW)
            assert all(isinstance(effect, Store) for effect in stored)
    assert [event.outcome.status for event in ear.events] == ["refused", "applied", "applied"]


def test_a_forged_receipt_is_a_violation_and_is_not_heard() -> None:
    client, ear = LedgerClient(GENESIS.validator_set), Ear()
    client.listeners.append(ear)
    other = Genesis("chain", NOW, ((OWNER.peer, 1),), GENESIS.balances)
    forged = receipts_for(Orderer(OWNER, other, []), TRANSFER, NOW)
    with pytest.raises(RemoteViolation):
        client.receive(OWNER.peer, forged[0], NOW)
    assert ear.events == []
