"""Certificates and receipts: what verifies, and every way in which it must not."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.block import certify, decode_block, header_hash, make_receipts, receipt_tree, verify_receipts
from protocol.chain import Chain
from protocol.errors import LocalError, RemoteViolation
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.ledger import check
from protocol.messages import Block, Outcome, Receipts, message_decoder
from protocol.operations import Mint, Transfer, signed_op
from protocol.units import Micros, PeerId
from protocol.validators import ValidatorSet
from tests.protocol.ledger_world import CHAIN, FUNDS, PROVIDERS, RENTER, START

KEYS = tuple(Identity(bytes([40 + n]) * 32) for n in range(4))
GENESIS = Genesis(CHAIN, START, tuple((item.peer, 1) for item in KEYS), (("U", RENTER.peer, FUNDS),))
SENDER = PeerId(b"s" * 32)


def make(chain: Chain, count: int = 3, signers: tuple[Identity, ...] = KEYS) -> tuple[Block, tuple[Outcome, ...]]:
    """The chain's next block with `count` transfers, the second of them refused."""
    first = chain.ledger.next_sequence(RENTER.peer)
    operations = []
    for number in range(count):
        amount = FUNDS * 2 if number == 1 else 5
        operation = Transfer(RENTER.peer, 0, first + number, PROVIDERS[0].peer, amount)
        operations.append(check(signed_op(CHAIN, operation, RENTER), CHAIN, SENDER))
    header, outcomes = chain.extend(operations, Micros(chain.ledger.time + 1_000))
    certificate = tuple(certify(item, header) for item in signers)
    return Block(header, certificate, tuple(item.signed for item in operations)), outcomes


def receipts_of(block: Block, outcomes: tuple[Outcome, ...], indexes: tuple[int, ...] = (0, 2)) -> Receipts:
    (receipts,) = make_receipts(block, outcomes, indexes, receipt_tree(outcomes))
    return receipts


def test_a_receipt_says_what_a_quorum_certified() -> None:
    block, outcomes = make(Chain(GENESIS), signers=KEYS[:3])
    found = verify_receipts(receipts_of(block, outcomes, (0, 1)), GENESIS.validator_set, SENDER)
    assert [item.status for _, _, item in found] == ["applied", "refused"]
    assert [signed for _, signed, _ in found] == list(block.operations[:2])


Tamper = Callable[[Receipts], Receipts]
replace = msgspec.structs.replace


def _other_outcome(receipts: Receipts) -> Receipts:
    receipt = receipts.receipts[0]
    lie = replace(receipt, outcome=replace(receipt.outcome, status="refused"))
    return replace(receipts, receipts=(lie, *receipts.receipts[1:]))


def _other_operation(receipts: Receipts) -> Receipts:
    return replace(receipts, operations=tuple(reversed(receipts.operations)))


def _other_index(receipts: Receipts) -> Receipts:
    return replace(receipts, receipts=(replace(receipts.receipts[0], index=1), *receipts.receipts[1:]))


def _other_count(receipts: Receipts) -> Receipts:
    return replace(receipts, header=replace(receipts.header, count=4))


def _fewer_receipts(receipts: Receipts) -> Receipts:
    return replace(receipts, receipts=receipts.receipts[:1])


def _too_few_signatures(receipts: Receipts) -> Receipts:
    return replace(receipts, certificate=receipts.certificate[:2])


def _one_twice(receipts: Receipts) -> Receipts:
    return replace(receipts, certificate=(*receipts.certificate[:2], receipts.certificate[0]))


def _a_stranger(receipts: Receipts) -> Receipts:
    return replace(receipts, certificate=(*receipts.certificate, certify(RENTER, receipts.header)))


def _another_time(receipts: Receipts) -> Receipts:
    return replace(receipts, header=replace(receipts.header, time=receipts.header.time + 1))


def _another_chain(receipts: Receipts) -> Receipts:
    header = replace(receipts.header, chain="other")
    return replace(receipts, header=header, certificate=tuple(certify(item, header) for item in KEYS))


def _other_validators(receipts: Receipts) -> Receipts:
    header = replace(receipts.header, validators=bytes(32))
    return replace(receipts, header=header, certificate=tuple(certify(item, header) for item in KEYS))


TAMPERS: list[Tamper] = [
    _other_outcome, _other_operation, _other_index, _other_count, _fewer_receipts, _too_few_signatures, _one_twice,
    _a_stranger, _another_time, _another_chain, _other_validators,
]  # fmt: skip


@pytest.mark.parametrize("tamper", TAMPERS)
def test_a_tampered_receipt_is_its_senders_fault(tamper: Tamper) -> None:
    receipts = receipts_of(*make(Chain(GENESIS)))
    verify_receipts(receipts, GENESIS.validator_set, SENDER)
    with pytest.raises(RemoteViolation) as caught:
        verify_receipts(tamper(receipts), GENESIS.validator_set, SENDER)
    assert caught.value.peer == SENDER


def test_power_counts_and_not_heads() -> None:
    members = ((KEYS[0].peer, 7), (KEYS[1].peer, 1), (KEYS[2].peer, 1), (KEYS[3].peer, 1))
    weighted = ValidatorSet(CHAIN, members)
    assert weighted.quorum == 7
    assert weighted.is_quorum([KEYS[0].peer])
    assert not weighted.is_quorum([item.peer for item in KEYS[1:]])
    assert not weighted.is_quorum([KEYS[1].peer] * 9)


@given(powers=st.lists(st.integers(1, 100), min_size=1, max_size=8), data=st.data())
def test_two_quorums_share_more_than_a_third(powers: list[int], data: st.DataObject) -> None:
    members = [(bytes([number]) * 32, power) for number, power in enumerate(powers)]
    known = ValidatorSet(CHAIN, members)
    keys = st.sets(st.sampled_from([key for key, _ in members]))
    first, second = data.draw(keys), data.draw(keys)
    if known.is_quorum(first) and known.is_quorum(second):
        assert 3 * known.power(first & second) > known.total
    assert known.is_quorum(key for key, _ in members)


@pytest.mark.parametrize("members", [[], [(b"a" * 32, 1), (b"a" * 32, 1)], [(b"a" * 32, 0)]])
def test_a_senseless_validator_set_is_refused(members: list[tuple[bytes, int]]) -> None:
    with pytest.raises(LocalError):
        ValidatorSet(CHAIN, members)


def test_large_receipts_are_split_and_fit_messages() -> None:
    chain = Chain(GENESIS)
    notes = [check(signed_op(CHAIN, Mint(bytes([n]) * 32, RENTER.peer, 1), *KEYS), CHAIN, SENDER) for n in range(64)]
    header, outcomes = chain.extend(notes, Micros(START + 1_000))
    block = Block(header, tuple(certify(item, header) for item in KEYS), tuple(item.signed for item in notes))
    messages = make_receipts(block, outcomes, range(64), receipt_tree(outcomes))
    assert sum(len(item.operations) for item in messages) == 64
    for message in messages:
        data = wire.encode(message)
        assert len(data) <= wire.MESSAGE_BYTES_MAX
        assert wire.decode(data, message_decoder, SENDER) == message
        verify_receipts(message, GENESIS.validator_set, SENDER)


# ── chains ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_followers_reach_the_same_state_bytes() -> None:
    leader, follower = Chain(GENESIS), Chain(GENESIS)
    for _ in range(5):
        block, outcomes = make(leader)
        assert follower.follow(decode_block(wire.encode(block), SENDER), SENDER) == outcomes
        assert follower.ledger.encode() == leader.ledger.encode()
        assert follower.head_hash == header_hash(block.header)


@pytest.mark.parametrize("step", [0, 999, 5_000_001, -1])
def test_a_block_may_not_move_the_clock_otherwise(step: int) -> None:
    leader, follower = Chain(GENESIS), Chain(GENESIS)
    header, _ = leader.extend([], Micros(START + step))
    block = Block(replace(header, time=START + step), (certify(KEYS[0], header),), ())
    with pytest.raises(RemoteViolation, match="clock"):
        follower.follow(block, SENDER)


def test_blocks_follow_one_another() -> None:
    leader, follower = Chain(GENESIS), Chain(GENESIS)
    first, _ = make(leader)
    second, _ = make(leader)
    with pytest.raises(RemoteViolation, match="does not follow"):
        follower.follow(second, SENDER)
    follower.follow(first, SENDER)
    with pytest.raises(RemoteViolation, match="does not follow"):
        follower.follow(first, SENDER)


def test_a_certified_lie_stops_the_follower() -> None:
    """A quorum that certifies a state which the operations do not give: going on would hide it."""
    leader, follower = Chain(GENESIS), Chain(GENESIS)
    block, _ = make(leader)
    header = replace(block.header, state_root=bytes(32))
    lie = Block(header, tuple(certify(item, header) for item in KEYS), block.operations)
    with pytest.raises(LocalError, match="state_root"):
        follower.follow(lie, SENDER)


def test_a_stored_block_that_changed_is_named() -> None:
    leader = Chain(GENESIS)
    blocks = [wire.encode(make(leader)[0]) for _ in range(3)]
    Chain(GENESIS).replay(blocks)
    for damaged in (blocks[1][:-1], blocks[2]):
        with pytest.raises(LocalError, match="stored block 2"):
            Chain(GENESIS).replay([blocks[0], damaged, blocks[2]])


@given(data=st.binary(max_size=300))
def test_bytes_are_a_block_or_a_violation(data: bytes) -> None:
    with pytest.raises(RemoteViolation):
        decode_block(data, SENDER)
