"""Attack 54: cut a validator off, or half of them, and have the rest decide.

Without a quorum nothing becomes final: it stalls, and goes on when the cut heals. A beacon does not depend on one path.
"""

from __future__ import annotations

import pytest

from node.drand import Drand
from protocol.errors import Unavailable
from protocol.genesis import Genesis
from protocol.units import Micros
from tests.protocol.ledger_world import RENTER
from tests.verifier.appeals import BAD, Appeals
from tests.verifier.quorum import KEYS, Quorum
from tests.verifier.test_beacon import GENESIS, claimed, keepers


def height(quorum: Quorum, index: int = 0) -> int:
    return quorum.orderers[KEYS[index].peer].height


def test_half_of_the_validators_finish_nothing() -> None:
    quorum = keepers()
    escrow = claimed(quorum)
    quorum.run(0.2)
    quorum.down |= {KEYS[2].peer, KEYS[3].peer}
    before = height(quorum)
    quorum.run(60)
    assert height(quorum) <= before + 1, "it stalls"
    lease = quorum.orderers[KEYS[0].peer].ledger.escrows.get(escrow)
    assert lease is None or not lease.chunks[0].beacon
    quorum.down.clear()
    quorum.run(30)
    assert height(quorum) > before + 1
    assert quorum.orderers[KEYS[0].peer].ledger.escrows[escrow].chunks[0].beacon, "and goes on when it heals"


def test_a_ruling_of_half_the_judges_is_none() -> None:
    appeals = Appeals(BAD)
    appeals.decided("accept")
    appeals.appeal(RENTER)
    appeals.quorum.down |= {KEYS[2].peer, KEYS[3].peer}
    held = appeals.run(120)
    assert (held.finding, held.end) == ("accept", "")
    assert held.appeal, "nothing is decided and nothing is paid"


def test_an_eclipsed_validator_follows_no_other_history() -> None:
    quorum = keepers()
    claimed(quorum)
    quorum.run(2)
    forged = Genesis(GENESIS.chain, Micros(GENESIS.time + 1), GENESIS.validators, GENESIS.balances, GENESIS.policy)
    other = Quorum(forged, lambda key, orderer: [])
    other.run(10)
    (block,) = [other.disks[KEYS[0].peer]["block/1"]]
    assert block != quorum.disks[KEYS[0].peer]["block/1"]
    assert quorum.genesis.digest != other.genesis.digest, "the first block names the state that all started from"


async def test_beacons_do_not_wait_for_a_server() -> None:
    client = Drand(lambda: Micros(1_700_000_000_000_000), servers=("http://127.0.0.1:9", "http://127.0.0.1:10"))
    with pytest.raises(Unavailable) as caught:
        await client.refresh()
    await client.close()
    assert caught.value.code == "no_drand"
    assert client.fresh() == b"", "a validator seals its own secret all the same"


def test_honest_twin_one_of_four_missing_changes_nothing() -> None:
    quorum = keepers()
    quorum.down.add(KEYS[3].peer)
    escrow = claimed(quorum)
    quorum.run(10)
    assert quorum.orderers[KEYS[0].peer].ledger.escrows[escrow].chunks[0].beacon
