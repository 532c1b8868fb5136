"""Beacons of four validators: everybody gets the same one, and one who keeps its part shut delays and pays."""

from __future__ import annotations

from typing import Final

import pytest

from protocol import wire
from protocol.beacon import seal_part
from protocol.effects import Effect, Send, Store
from protocol.errors import LocalError
from protocol.escrow_state import ChunkLease
from protocol.identity import Identity
from protocol.ledger import operation_decoder
from protocol.messages import Submit
from protocol.operations import BeaconCommit, BeaconReveal, signed_op
from protocol.policy import Policy
from protocol.units import SECOND, Micros
from tests.protocol.ledger_world import (
    CHAIN,
    PROVIDERS,
    RENTER,
    STAKE,
    STEWARD,
    assign,
    claim,
    open_escrow,
)
from tests.verifier.quorum import KEYS, NOW, Quorum, quorum_genesis
from verifier.beacon import ASK_AGAIN, KEPT, KEY, STRAGGLERS, BeaconKeeper
from verifier.orderer import Orderer

BEACON_TIME: Final = Micros(10 * SECOND)
GENESIS: Final = quorum_genesis(Policy(has_beacon=True, beacon_time=BEACON_TIME))


class Shut(BeaconKeeper):
    """Seals and does not open."""

    def _open(self, number: int, now: Micros) -> list[Effect]:
        return []


def keepers(shut: int = 0) -> Quorum:
    def make(key: Identity, orderer: Orderer) -> list[BeaconKeeper]:
        kind = Shut if KEYS.index(key) >= len(KEYS) - shut else BeaconKeeper
        return [kind(key, GENESIS.validator_set, lambda: orderer.ledger, lambda: b"fresh")]

    return Quorum(GENESIS, make)


def claimed(quorum: Quorum) -> bytes:
    """A claim is ordered; the escrow's id."""
    opened = signed_op(CHAIN, open_escrow(), RENTER)
    leased = signed_op(CHAIN, assign(opened.op_id), STEWARD, PROVIDERS[0])
    quorum.submit(opened, leased, signed_op(CHAIN, claim(opened.op_id), PROVIDERS[0]))
    return opened.op_id


def leases(quorum: Quorum, escrow: bytes) -> list[ChunkLease]:
    return [quorum.orderers[key.peer].ledger.escrows[escrow].chunks[0] for key in KEYS]


def test_a_claim_gets_a_beacon_that_is_the_same_everywhere() -> None:
    quorum = keepers()
    escrow = claimed(quorum)
    quorum.run(6)
    found = {lease.beacon for lease in leases(quorum, escrow)}
    assert len(found) == 1
    (beacon,) = found
    assert len(beacon) == 32
    assert beacon not in {lease.claimed_in for lease in leases(quorum, escrow)}
    ledger = quorum.orderers[KEYS[0].peer].ledger
    assert set(ledger.beacons[1].secrets) == {key.peer for key in KEYS}, "all had time to seal"
    assert ledger.beacon_wanted is None
    before = quorum.sent
    quorum.run(1)
    assert not [item for item in quorum.line if isinstance(item[4], Submit)], "nothing is sealed that nobody wants"
    assert quorum.sent - before < 20


@pytest.mark.parametrize("loss", [0.1, 0.3])
def test_over_a_bad_line(loss: float) -> None:
    quorum = keepers()
    quorum.loss = loss
    escrow = claimed(quorum)
    quorum.run(60)
    assert len({lease.beacon for lease in leases(quorum, escrow)} - {b""}) == 1


def test_one_who_keeps_its_part_shut_delays_and_pays() -> None:
    quorum = keepers(shut=1)
    escrow = claimed(quorum)
    quorum.run(6)
    assert {lease.beacon for lease in leases(quorum, escrow)} == {b""}, "all who sealed are waited for"
    quorum.run(12)
    assert len({lease.beacon for lease in leases(quorum, escrow)} - {b""}) == 1
    ledger = quorum.orderers[KEYS[0].peer].ledger
    assert [ledger.available("S", key.peer) for key in KEYS] == [STAKE] * 3 + [STAKE - STAKE // 100]


def test_one_who_is_down_is_not_waited_for_long() -> None:
    quorum = keepers()
    quorum.down.add(KEYS[3].peer)
    escrow = claimed(quorum)
    quorum.run(8)
    lease = quorum.orderers[KEYS[0].peer].ledger.escrows[escrow].chunks[0]
    assert lease.beacon, "a quorum is enough"
    assert quorum.orderers[KEYS[0].peer].ledger.available("S", KEYS[3].peer) == STAKE, "who seals nothing loses nothing"


def test_two_of_four_cannot_make_one() -> None:
    quorum = keepers(shut=2)
    escrow = claimed(quorum)
    quorum.run(40)
    assert {lease.beacon for lease in leases(quorum, escrow)} == {b""}, "it stalls rather than deciding alone"
    assert quorum.orderers[KEYS[0].peer].ledger.beacons[1].state == "failed"


def test_a_restart_opens_what_was_sealed() -> None:
    quorum = keepers()
    escrow = claimed(quorum)
    beacons = quorum.orderers[KEYS[0].peer].ledger.beacons
    while 1 not in beacons or KEYS[1].peer not in beacons[1].sealed:
        quorum.run(0.1)
    assert any(key.startswith(KEY) for key in quorum.disks[KEYS[1].peer])
    quorum.down.add(KEYS[1].peer)
    quorum.run(0.3)
    quorum.start(KEYS[1])
    (keeper,) = quorum.beside[KEYS[1].peer]
    assert isinstance(keeper, BeaconKeeper)
    keeper.restore(quorum.disks[KEYS[1].peer].items(), quorum.now)
    quorum.run(8)
    ledger = quorum.orderers[KEYS[0].peer].ledger
    assert len({lease.beacon for lease in leases(quorum, escrow)} - {b""}) == 1
    assert KEYS[1].peer in ledger.beacons[1].secrets
    assert ledger.available("S", KEYS[1].peer) == STAKE


# ── one keeper ───────────────────────────────────────────────────────────────────────────────────────────────────────
class Part:
    """A beacon as the ledger shows it."""

    def __init__(self) -> None:
        self.sealed: dict[bytes, bytes] = {}
        self.secrets: dict[bytes, bytes] = {}
        self.opened_in = b"h" * 32


class View:
    """A ledger that wants beacon `beacon_wanted`."""

    def __init__(self) -> None:
        self.beacons: dict[int, Part] = {}
        self.beacon_wanted: int | None = 5


def submitted(effects: list[Effect]) -> list[object]:
    return [effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, Submit)]


def test_the_secret_is_on_disk_before_its_seal_leaves_and_differs_each_time() -> None:
    view = View()
    keeper = BeaconKeeper(KEYS[0], GENESIS.validator_set, lambda: view, lambda: b"drand")
    first = keeper.tick(NOW)
    assert [type(effect) for effect in first[:2]] == [Store, Send]
    assert not submitted(keeper.tick(Micros(NOW + 1))), "not again at once"
    assert len(submitted(keeper.tick(Micros(NOW + ASK_AGAIN)))) == 1
    secrets = {effect.value for effect in first if isinstance(effect, Store)}
    for number in range(6, 30):
        view.beacon_wanted = number
        secrets |= {e.value for e in keeper.tick(NOW) if isinstance(e, Store) and e.value is not None}
    assert len(secrets) == 25
    other = BeaconKeeper(KEYS[1], GENESIS.validator_set, lambda: view, lambda: b"drand")
    assert not secrets & {e.value for e in other.tick(NOW) if isinstance(e, Store)}
    assert len(keeper._secrets) <= KEPT


def test_it_opens_when_a_quorum_sealed_and_stragglers_had_their_time() -> None:
    view = View()
    keeper = BeaconKeeper(KEYS[0], GENESIS.validator_set, lambda: view, lambda: b"drand")
    (secret,) = [e.value for e in keeper.tick(NOW) if isinstance(e, Store)]
    assert secret is not None
    part = view.beacons[5] = Part()
    part.sealed = {KEYS[0].peer: seal_part(KEYS[0].peer, 5, secret), KEYS[1].peer: b"x" * 32}
    assert not submitted(keeper.tick(NOW))
    part.sealed[KEYS[2].peer] = b"x" * 32
    part.opened_in = b""
    assert not submitted(keeper.tick(NOW)), "not in the block of the first part"
    part.opened_in = b"h" * 32
    assert not submitted(keeper.tick(NOW))
    (send,) = submitted(keeper.tick(Micros(NOW + STRAGGLERS)))
    assert isinstance(send, Send)
    reveal = signed_op(CHAIN, BeaconReveal(5, KEYS[0].peer, secret), KEYS[0])
    assert send.message == Submit((reveal,))
    part.secrets[KEYS[0].peer] = secret
    assert not submitted(keeper.tick(Micros(NOW + 10 * STRAGGLERS)))


def test_without_its_disk_it_opens_what_it_can_make_again_and_nothing_else() -> None:
    view = View()
    one = BeaconKeeper(KEYS[0], GENESIS.validator_set, lambda: view)
    mixed = BeaconKeeper(KEYS[0], GENESIS.validator_set, lambda: view, lambda: b"drand")
    for keeper, opens in ((one, 1), (mixed, 0)):
        view.beacons.clear()
        effects = keeper.tick(NOW)
        assert any(isinstance(effect, Store) for effect in effects) == (keeper is mixed), "made again, or stored"
        (send,) = submitted(effects)
        assert isinstance(send, Send) and isinstance(send.message, Submit)
        said = wire.decode(send.message.operations[0].body, operation_decoder, KEYS[0].peer)
        assert isinstance(said, BeaconCommit)
        part = view.beacons[5] = Part()
        part.sealed = dict.fromkeys((key.peer for key in KEYS), said.sealed)
        again = BeaconKeeper(KEYS[0], GENESIS.validator_set, lambda: view)
        assert len(submitted(again.tick(NOW))) == opens
    with pytest.raises(LocalError):
        one.receive(KEYS[0].peer, Submit(()), NOW)
