"""A follower reaches the leader's state from heads and blocks, and is led astray by nobody."""

from __future__ import annotations

import msgspec
import pytest

from protocol import wire
from protocol.chain import Chain
from protocol.effects import Effect, Fail, Send, Wake
from protocol.errors import RemoteViolation
from protocol.follower import POLL, REQUEST_RETRY, Follower
from protocol.messages import Block, Blocks, BlocksRequest, Head
from protocol.units import SECOND, Micros, PeerId
from tests.protocol.test_block import GENESIS, KEYS, make

FIRST, SECOND_PEER = KEYS[0].peer, KEYS[1].peer
NOW = Micros(1_000 * SECOND)


def head(block: Block) -> Head:
    return Head(block.header, block.certificate)


def requests(effects: list[Effect]) -> list[tuple[PeerId, int]]:
    return [(e.peer, e.message.height) for e in effects if isinstance(e, Send) and isinstance(e.message, BlocksRequest)]


def wake(effects: list[Effect]) -> Micros:
    return next(effect.at for effect in effects if isinstance(effect, Wake))


@pytest.fixture
def blocks() -> list[Block]:
    chain = Chain(GENESIS)
    return [make(chain)[0] for _ in range(6)]


def test_a_head_is_followed_until_the_tip(blocks: list[Block]) -> None:
    leader, follower = Chain(GENESIS), Follower(GENESIS)
    assert requests(follower.receive(FIRST, head(blocks[5]), NOW)) == [(FIRST, 1)]
    assert requests(follower.receive(FIRST, head(blocks[4]), NOW)) == [], "one request at a time, no older head"
    effects = follower.receive(FIRST, Blocks(tuple(blocks[:4]), 6), NOW)
    assert requests(effects) == [(FIRST, 5)]
    assert follower.height == 4
    effects = follower.receive(FIRST, Blocks(tuple(blocks[4:]), 6), NOW)
    assert requests(effects) == []
    leader.replay(wire.encode(block) for block in blocks)
    assert follower.ledger.encode() == leader.ledger.encode()
    assert (follower.height, follower.tip, follower.time) == (6, 6, leader.ledger.time)


def test_it_asks_at_the_start_and_when_heads_stay_away() -> None:
    follower = Follower(GENESIS)
    assert requests(follower.tick(NOW)) == [(FIRST, 1)]
    effects = follower.receive(FIRST, Blocks((), 0), NOW)
    assert requests(effects) == []
    assert wake(effects) == NOW + POLL
    assert requests(follower.tick(Micros(NOW + POLL))) == [(FIRST, 1)]


def test_without_an_answer_the_next_validator_is_asked() -> None:
    follower = Follower(GENESIS)
    follower.tick(NOW)
    assert requests(follower.tick(Micros(NOW + REQUEST_RETRY - 1))) == []
    assert requests(follower.tick(Micros(NOW + REQUEST_RETRY))) == [(SECOND_PEER, 1)]


def test_a_validator_that_lags_is_not_asked_in_a_loop(blocks: list[Block]) -> None:
    follower = Follower(GENESIS)
    follower.receive(FIRST, head(blocks[0]), NOW)
    effects = follower.receive(FIRST, Blocks((), 0), NOW)
    assert requests(effects) == []
    assert requests(follower.tick(wake(effects))) == [(SECOND_PEER, 1)]


def test_a_false_head_changes_nothing(blocks: list[Block]) -> None:
    follower = Follower(GENESIS)
    lie = Head(msgspec.structs.replace(blocks[0].header, height=99), blocks[0].certificate)
    with pytest.raises(RemoteViolation):
        follower.receive(FIRST, lie, NOW)
    assert follower.tip == 0


def test_a_bad_block_is_the_senders_fault_and_the_good_ones_before_it_count(blocks: list[Block]) -> None:
    follower = Follower(GENESIS)
    follower.tick(NOW)
    bad = msgspec.structs.replace(blocks[1], operations=blocks[1].operations[:-1])
    effects = follower.receive(FIRST, Blocks((blocks[0], bad), 6), NOW)
    assert [effect.error.code for effect in effects if isinstance(effect, Fail)] == ["bad_block"]
    assert follower.height == 1
    assert requests(effects) == [(SECOND_PEER, 2)]


def test_a_late_answer_to_an_earlier_run_accuses_nobody(blocks: list[Block]) -> None:
    """Found by the simulator: a restarted peer blamed the validator for blocks that it had asked for itself before."""
    follower = Follower(GENESIS)
    follower.tick(NOW)
    effects = follower.receive(FIRST, Blocks(tuple(blocks[3:]), 6), NOW)
    assert not any(isinstance(effect, Fail) for effect in effects)
    assert follower.height == 0


def test_blocks_from_a_stranger_are_as_good_if_they_verify(blocks: list[Block]) -> None:
    follower = Follower(GENESIS)
    follower.receive(PeerId(b"x" * 32), Blocks(tuple(blocks), 6), NOW)
    assert follower.height == 6


def test_a_restart_from_stored_blocks(blocks: list[Block]) -> None:
    follower = Follower(GENESIS, [SECOND_PEER], [wire.encode(block) for block in blocks[:3]])
    assert follower.height == 3
    assert requests(follower.tick(NOW)) == [(SECOND_PEER, 4)]
