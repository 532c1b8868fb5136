"""Ordering: one validator and four, with loss, restarts and lies; nothing leaves before it is on disk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol import wire
from protocol.block import BLOCK_OPS_MAX, CLOCK_STEP_MAX, certify, header_hash, verify_certificate, verify_receipts
from protocol.effects import Effect, Publish, Send, Store, Wake
from protocol.errors import Refused, RemoteViolation
from protocol.follower import Follower
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.messages import (
    Block,
    Blocks,
    BlocksRequest,
    Head,
    Message,
    Proposal,
    Receipts,
    Submit,
    Vote,
    message_decoder,
)
from protocol.operations import SignedOp, Transfer, signed_op
from protocol.units import SECOND, Micros, PeerId
from tests.protocol.ledger_world import (
    CHAIN,
    FUNDS,
    OTHER,
    PROVIDERS,
    RENTER,
    STAKE,
    START,
    STEWARD,
    assign,
    claim,
    open_escrow,
)
from verifier.orderer import GATHER, HEARTBEAT, RETRY, Orderer
from verifier.pool import POOL_OPS_MAX, RELAYED_OPS_MAX, SUBMITTER_OPS_MAX

KEYS: Final = tuple(Identity(bytes([40 + n]) * 32) for n in range(4))
LEADER: Final = KEYS[0].peer
NOW: Final = Micros(5_000_000 * SECOND)
BALANCES: Final = (("U", RENTER.peer, FUNDS), ("S", PROVIDERS[0].peer, STAKE))


def genesis(validators: int) -> Genesis:
    return Genesis(CHAIN, START, tuple((item.peer, 1) for item in KEYS[:validators]), BALANCES)


def transfer(sequence: int, lane: int = 0) -> SignedOp:
    return signed_op(CHAIN, Transfer(RENTER.peer, lane, sequence, PROVIDERS[0].peer, 1), RENTER)


def sent(effects: Iterable[Effect], kind: type[Message], to: PeerId | None = None) -> list[Message]:
    found = [e for e in effects if isinstance(e, Send) and isinstance(e.message, kind) and to in (None, e.peer)]
    return [effect.message for effect in found]


def receipts(effects: Iterable[Effect], to: PeerId, known: Genesis) -> list[tuple[bytes, str]]:
    """(operation, status) of the verified receipts that these effects send to a peer."""
    return [
        (outcome.op, outcome.status)
        for message in sent(effects, Receipts, to)
        if isinstance(message, Receipts)
        for _, _, outcome in verify_receipts(message, known.validator_set, LEADER)
    ]


def stores(effects: Iterable[Effect], prefix: str = "block/") -> list[bytes]:
    return [e.value for e in effects if isinstance(e, Store) and e.key.startswith(prefix) and e.value is not None]


def wake(effects: Iterable[Effect]) -> Micros:
    return min(effect.at for effect in effects if isinstance(effect, Wake))


def alone() -> Orderer:
    return Orderer(KEYS[0], genesis(1), [])


# ── one validator ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_operation_waits_a_moment_then_is_on_disk_before_anybody_hears() -> None:
    orderer = alone()
    effects = orderer.receive(STEWARD.peer, Submit((transfer(0),)), NOW)
    assert stores(effects) == []
    assert wake(effects) == NOW + GATHER
    effects = orderer.tick(Micros(NOW + GATHER))
    kinds = [type(e.message) if isinstance(e, Send) else type(e) for e in effects]
    assert kinds.index(Store) < kinds.index(Receipts) < kinds.index(Publish)
    assert receipts(effects, STEWARD.peer, genesis(1)) == [(transfer(0).op_id, "applied")]
    assert receipts(effects, LEADER, genesis(1)) == [(transfer(0).op_id, "applied")]
    assert sent(effects, Receipts, RENTER.peer) == [], "a renter's key is no peer"


def test_a_full_block_does_not_wait_and_fits_a_message() -> None:
    orderer = alone()
    effects: list[Effect] = []
    for start in range(0, 128, 32):
        effects += orderer.receive(STEWARD.peer, Submit(tuple(transfer(n) for n in range(start, start + 32))), NOW)
    blocks = stores(effects)
    assert len(blocks) == 128 // BLOCK_OPS_MAX
    assert all(len(data) < wire.MESSAGE_BYTES_MAX - 4_096 for data in blocks)
    assert len(receipts(effects, STEWARD.peer, genesis(1))) == 128
    for message in sent(effects, Receipts):
        assert wire.decode(wire.encode(message), message_decoder, LEADER) == message


def test_large_operations_are_spread_over_blocks() -> None:
    orderer = alone()
    body = Transfer(RENTER.peer, 0, 0, PROVIDERS[0].peer, 1)
    effects: list[Effect] = []
    for lane in range(30):
        operation = msgspec.structs.replace(body, lane=lane)
        effects += orderer.receive(STEWARD.peer, Submit((signed_op(CHAIN, operation, RENTER, *KEYS, *PROVIDERS),)), NOW)
    effects += orderer.tick(Micros(NOW + GATHER))
    assert len(orderer.ledger.outcomes) == 30
    assert all(len(data) < wire.MESSAGE_BYTES_MAX for data in stores(effects))


def test_parties_of_a_lease_hear_of_it() -> None:
    orderer, provider = alone(), PROVIDERS[0]
    opened = signed_op(CHAIN, open_escrow(), RENTER)
    leased = signed_op(CHAIN, assign(opened.op_id), STEWARD, provider)
    claimed = signed_op(CHAIN, claim(opened.op_id), provider)
    orderer.receive(OTHER.peer, Submit((opened, leased, claimed)), NOW)
    effects = orderer.tick(Micros(NOW + GATHER))
    everything = [(item.op_id, "applied") for item in (opened, leased, claimed)]
    assert receipts(effects, STEWARD.peer, genesis(1)) == everything
    assert receipts(effects, provider.peer, genesis(1)) == everything[1:]
    assert receipts(effects, OTHER.peer, genesis(1)) == everything, "who handed it in hears too"
    block = header_hash(wire.decode(stores(effects)[0], msgspec.msgpack.Decoder(Block), LEADER).header)
    assert orderer.ledger.escrows[opened.op_id].chunks[0].claimed_in == block


def test_a_bad_signature_is_the_submitters_fault_and_nothing_is_ordered() -> None:
    orderer = alone()
    forged = SignedOp(transfer(0).body, (msgspec.structs.replace(transfer(0).signatures[0], signature=bytes(64)),))
    with pytest.raises(RemoteViolation) as caught:
        orderer.receive(STEWARD.peer, Submit((transfer(0), forged)), NOW)
    assert caught.value.peer == STEWARD.peer
    assert stores(orderer.tick(Micros(NOW + GATHER))) == []


def test_the_same_operation_again_gets_its_old_receipt() -> None:
    orderer = alone()
    orderer.receive(STEWARD.peer, Submit((transfer(0), transfer(0))), NOW)
    first = orderer.tick(Micros(NOW + GATHER))
    assert len(stores(first)) == 1
    again = orderer.receive(OTHER.peer, Submit((transfer(0),)), Micros(NOW + SECOND))
    assert stores(again) == []
    assert receipts(again, OTHER.peer, genesis(1)) == receipts(first, STEWARD.peer, genesis(1))


def test_an_operation_whose_receipt_is_too_old_is_ordered_again_and_does_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("verifier.block_log.OUTCOMES_MAX", 3)
    orderer = alone()
    for n in range(6):
        orderer.receive(STEWARD.peer, Submit((transfer(n),)), Micros(NOW + n * SECOND))
        orderer.tick(Micros(NOW + n * SECOND + GATHER))
    balance, now = orderer.ledger.available("U", RENTER.peer), Micros(NOW + 6 * SECOND)
    effects = orderer.receive(OTHER.peer, Submit((transfer(5),)), now)
    assert (stores(effects), receipts(effects, OTHER.peer, genesis(1))) == ([], [(transfer(5).op_id, "applied")])
    effects = orderer.receive(OTHER.peer, Submit((transfer(0),)), now)
    effects += orderer.tick(Micros(now + GATHER))
    assert len(stores(effects)) == 1
    assert receipts(effects, OTHER.peer, genesis(1)) == [(transfer(0).op_id, "applied")]
    assert orderer.ledger.available("U", RENTER.peer) == balance
    assert sum(map(len, orderer._replica.log._outcomes.values())) <= 3


def test_what_was_done_in_an_escrow_is_never_ordered_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges draw from the block that an appeal is in, and stewards follow leases: old bytes are no news for them."""
    monkeypatch.setattr("verifier.block_log.OUTCOMES_MAX", 1)
    orderer = alone()
    opened = signed_op(CHAIN, open_escrow(), RENTER)
    given = signed_op(CHAIN, assign(opened.op_id), STEWARD, PROVIDERS[0])
    for n, operation in enumerate((opened, given, transfer(1))):
        orderer.receive(STEWARD.peer, Submit((operation,)), Micros(NOW + n * SECOND))
        effects = orderer.tick(Micros(NOW + n * SECOND + GATHER))
        assert receipts(effects, STEWARD.peer, genesis(1)) == [(operation.op_id, "applied")]
    now = Micros(NOW + 3 * SECOND)
    for operation in (opened, given):
        effects = orderer.receive(OTHER.peer, Submit((operation,)), now) + orderer.tick(Micros(now + GATHER))
        assert not stores(effects) and not receipts(effects, OTHER.peer, genesis(1))


def test_an_operation_that_waits_is_not_ordered_twice_but_both_submitters_hear() -> None:
    orderer = alone()
    orderer.receive(STEWARD.peer, Submit((transfer(0),)), NOW)
    orderer.receive(OTHER.peer, Submit((transfer(0),)), NOW)
    effects = orderer.tick(Micros(NOW + GATHER))
    assert len(receipts(effects, STEWARD.peer, genesis(1))) == len(receipts(effects, OTHER.peer, genesis(1))) == 1


def test_an_idle_ledger_keeps_its_clock() -> None:
    orderer = alone()
    now, start = NOW, orderer.ledger.time
    orderer.tick(now)
    for _ in range(10):
        now = Micros(now + HEARTBEAT + 50_000)
        assert len(stores(orderer.tick(now))) == 1
    assert orderer.ledger.time - start == 10 * (HEARTBEAT + 50_000)


def test_a_jump_of_the_clock_moves_the_ledger_by_one_step() -> None:
    orderer = alone()
    orderer.tick(NOW)
    before = orderer.ledger.time
    orderer.tick(Micros(NOW + 3 * 86_400 * SECOND))
    assert orderer.ledger.time - before == CLOCK_STEP_MAX
    orderer.receive(STEWARD.peer, Submit((transfer(0),)), NOW)
    effects = orderer.tick(Micros(NOW + 3 * 86_400 * SECOND + HEARTBEAT))
    assert len(stores(effects)) == 1, "and a clock that went back stops nothing"


def test_heads_are_gossiped_at_most_five_times_a_second_and_the_last_one_always() -> None:
    orderer, published = alone(), []
    now = NOW
    orderer.tick(now)
    for number in range(100):
        now = Micros(now + 10_000)
        effects = orderer.receive(STEWARD.peer, Submit((transfer(number),)), now) + orderer.tick(now)
        published += [effect for effect in effects if isinstance(effect, Publish)]
    now = Micros(now + SECOND)
    published += [effect for effect in orderer.tick(now) if isinstance(effect, Publish)]
    assert len(published) <= 7
    statement = published[-1].statement
    head = wire.open_signed(statement, CHAIN, "head", wire.decoder(Head), LEADER)
    assert head.header.height == orderer.height
    verify_certificate(head.header, head.certificate, genesis(1).validator_set, LEADER)


def test_a_restart_replays_to_the_same_bytes() -> None:
    orderer, disk = alone(), []
    for number in range(5):
        orderer.receive(STEWARD.peer, Submit((transfer(number),)), Micros(NOW + number * SECOND))
        disk += stores(orderer.tick(Micros(NOW + number * SECOND + GATHER)))
    again = Orderer(KEYS[0], genesis(1), disk)
    assert again.ledger.encode() == orderer.ledger.encode()
    assert again.height == orderer.height == len(disk)
    effects = again.receive(STEWARD.peer, Submit((transfer(2),)), NOW)
    assert receipts(effects, STEWARD.peer, genesis(1)) == [(transfer(2).op_id, "applied")]


def test_blocks_are_served_in_messages_that_fit() -> None:
    orderer, follower = alone(), Follower(genesis(1))
    for number in range(300):
        orderer.receive(STEWARD.peer, Submit((transfer(number),)), Micros(NOW + number * GATHER))
    orderer.tick(Micros(NOW + 301 * GATHER))
    rounds = 0
    while follower.height < orderer.height:
        (answer,) = sent(orderer.receive(OTHER.peer, BlocksRequest(follower.height + 1), NOW), Blocks)
        assert len(wire.encode(answer)) <= wire.MESSAGE_BYTES_MAX
        follower.receive(LEADER, answer, NOW)
        rounds += 1
    assert rounds > 1
    assert follower.ledger.encode() == orderer.ledger.encode()
    for height in (0, orderer.height + 1, 2**62):
        assert sent(orderer.receive(OTHER.peer, BlocksRequest(height), NOW), Blocks) == [Blocks((), orderer.height)]


# ── four validators ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_votes_for_something_else_do_not_count() -> None:
    orderer = Orderer(KEYS[0], genesis(4), [])
    orderer.receive(STEWARD.peer, Submit((transfer(0),)), NOW)
    effects = orderer.tick(Micros(NOW + GATHER))
    proposal = sent(effects, Proposal, KEYS[1].peer)[0]
    assert isinstance(proposal, Proposal)
    other = msgspec.structs.replace(proposal.header, time=proposal.header.time + 1)
    false = [
        (KEYS[1].peer, Vote(1, header_hash(other), certify(KEYS[1], other))),
        (KEYS[1].peer, Vote(1, header_hash(proposal.header), certify(KEYS[1], other))),
        (KEYS[1].peer, Vote(1, header_hash(other), certify(KEYS[1], proposal.header))),
        (KEYS[1].peer, Vote(1, header_hash(proposal.header), certify(KEYS[2], proposal.header))),
        (RENTER.peer, Vote(1, header_hash(proposal.header), certify(RENTER, proposal.header))),
    ]
    for sender, vote in false:
        with pytest.raises(RemoteViolation):
            orderer.receive(sender, vote, NOW)
    votes = [Vote(1, header_hash(proposal.header), certify(key, proposal.header)) for key in KEYS]
    assert stores(orderer.receive(KEYS[1].peer, votes[1], NOW)) == []
    assert stores(orderer.receive(KEYS[1].peer, votes[1], NOW)) == [], "the same vote twice is one vote"
    assert len(stores(orderer.receive(KEYS[2].peer, votes[2], NOW))) == 1


def test_a_validator_votes_for_nothing_that_it_did_not_find_itself() -> None:
    leader, voter = Orderer(KEYS[0], genesis(4), []), Orderer(KEYS[1], genesis(4), [])
    leader.receive(STEWARD.peer, Submit((transfer(0),)), NOW)
    proposal = sent(leader.tick(Micros(NOW + GATHER)), Proposal, KEYS[1].peer)[0]
    assert isinstance(proposal, Proposal)
    before = voter.ledger.encode()
    lie = msgspec.structs.replace(proposal.header, state_root=bytes(32))
    forged = SignedOp(transfer(0).body, (msgspec.structs.replace(transfer(0).signatures[0], signature=bytes(64)),))
    for sender, bad in [
        (LEADER, Proposal(lie, proposal.operations)),
        (LEADER, Proposal(proposal.header, ())),
        (LEADER, Proposal(proposal.header, (forged,))),
        (LEADER, Proposal(msgspec.structs.replace(proposal.header, time=START), proposal.operations)),
        (KEYS[2].peer, proposal),
    ]:
        with pytest.raises(RemoteViolation):
            voter.receive(sender, bad, NOW)
        assert voter.ledger.encode() == before
    effects = voter.receive(LEADER, proposal, NOW)
    assert isinstance(effects[0], Store), "the vote is on disk before it leaves"
    assert len(sent(effects, Vote, LEADER)) == 1


def test_a_validator_never_votes_twice_at_one_height_even_after_a_restart() -> None:
    leader, voter = Orderer(KEYS[0], genesis(4), []), Orderer(KEYS[1], genesis(4), [])
    leader.receive(STEWARD.peer, Submit((transfer(0),)), NOW)
    first = sent(leader.tick(Micros(NOW + GATHER)), Proposal, KEYS[1].peer)[0]
    other_leader = Orderer(KEYS[0], genesis(4), [])
    other_leader.receive(STEWARD.peer, Submit((transfer(0, lane=3),)), NOW)
    second = sent(other_leader.tick(Micros(NOW + GATHER)), Proposal, KEYS[1].peer)[0]
    (voted,) = stores(voter.receive(LEADER, first, NOW), "vote")
    again = Orderer(KEYS[1], genesis(4), [], voted)
    for machine in (voter, again):
        with pytest.raises(RemoteViolation, match="two proposals"):
            machine.receive(LEADER, second, NOW)
        assert len(sent(machine.receive(LEADER, first, NOW), Vote)) == 1, "the same vote may be sent again"


def test_a_leader_that_comes_back_counts_its_own_vote_again() -> None:
    leader = Orderer(KEYS[0], genesis(4), [])
    leader.receive(STEWARD.peer, Submit((transfer(0),)), NOW)
    effects = leader.tick(Micros(NOW + GATHER))
    again = Orderer(KEYS[0], genesis(4), [], stores(effects, "vote")[0])
    (proposal,) = sent(again.tick(NOW), Proposal, KEYS[1].peer)
    assert isinstance(proposal, Proposal)
    votes = [Vote(1, header_hash(proposal.header), certify(key, proposal.header)) for key in KEYS[1:3]]
    assert stores(again.receive(KEYS[1].peer, votes[0], NOW)) == []
    assert len(stores(again.receive(KEYS[2].peer, votes[1], NOW))) == 1


def test_the_pool_is_bounded() -> None:
    orderer = Orderer(KEYS[0], genesis(4), [])

    def flood(submitter: PeerId, lanes: range) -> int:
        with pytest.raises(Refused) as caught:
            for lane in lanes:
                body = Transfer(RENTER.peer, lane, 0, PROVIDERS[0].peer, 1)
                many = tuple(SignedOp(wire.encode(msgspec.structs.replace(body, amount=n)), ()) for n in range(1, 33))
                orderer.receive(submitter, Submit(many), NOW)
        assert caught.value.code == "pool_full"
        return int(caught.value.numbers["limit"])

    assert flood(STEWARD.peer, range(SUBMITTER_OPS_MAX // 32 + 3)) == SUBMITTER_OPS_MAX
    assert flood(KEYS[1].peer, range(300, 300 + RELAYED_OPS_MAX // 32 + 3)) == RELAYED_OPS_MAX
    assert flood(KEYS[2].peer, range(600, 600 + POOL_OPS_MAX // 32)) == POOL_OPS_MAX


class QuorumMachine(RuleBasedStateMachine):
    """Four validators, a network that loses and reorders, processes that stop and come back from their disks."""

    def __init__(self) -> None:
        super().__init__()
        self.genesis = genesis(4)
        self.now = int(NOW)
        self.blocks: list[list[bytes]] = [[] for _ in KEYS]
        self.votes: list[bytes | None] = [None for _ in KEYS]
        self.machines = [Orderer(key, self.genesis, []) for key in KEYS]
        self.network: list[tuple[PeerId, PeerId, Message]] = []
        self.signed: dict[tuple[PeerId, int], bytes] = {}
        self.sequence = 0

    def perform(self, index: int, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Store) and effect.key == "vote":
                self.votes[index] = effect.value
            elif isinstance(effect, Store) and effect.value is not None:
                assert effect.key == f"block/{len(self.blocks[index]) + 1}"
                self.blocks[index].append(effect.value)
            elif isinstance(effect, Send):
                self.observe(index, effect.message)
                self.network.append((KEYS[index].peer, effect.peer, effect.message))

    def observe(self, index: int, message: Message) -> None:
        """No double vote ever leaves, and what leaves was stored."""
        if isinstance(message, Vote):
            assert self.signed.setdefault((KEYS[index].peer, message.height), message.header) == message.header
        if isinstance(message, Receipts):
            assert len(self.blocks[index]) >= message.header.height

    @rule(count=st.integers(1, 70))
    def submit(self, count: int) -> None:
        for start in range(0, count, 64):
            batch = tuple(transfer(self.sequence + n) for n in range(min(64, count - start)))
            self.sequence += len(batch)
            self.perform(0, self.machines[0].receive(STEWARD.peer, Submit(batch), Micros(self.now)))

    @rule(span=st.sampled_from([1_000, GATHER, RETRY, HEARTBEAT]))
    def pass_time(self, span: int) -> None:
        self.now += span
        for index, machine in enumerate(self.machines):
            self.perform(index, machine.tick(Micros(self.now)))

    @rule(data=st.data(), count=st.integers(1, 12))
    @precondition(lambda self: bool(self.network))
    def deliver(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.network))):
            sender, to, message = self.network.pop(data.draw(st.integers(0, min(5, len(self.network) - 1))))
            self.hand(sender, to, message)

    @rule(data=st.data())
    @precondition(lambda self: bool(self.network))
    def lose(self, data: st.DataObject) -> None:
        self.network.pop(data.draw(st.integers(0, len(self.network) - 1)))

    @rule(index=st.integers(0, 3))
    def restart(self, index: int) -> None:
        self.machines[index] = Orderer(KEYS[index], self.genesis, list(self.blocks[index]), self.votes[index])

    def hand(self, sender: PeerId, to: PeerId, message: Message) -> None:
        for index, key in enumerate(KEYS):
            if key.peer == to and type(message) in self.machines[index].accepts:
                self.perform(index, self.machines[index].receive(sender, message, Micros(self.now)))

    @invariant()
    def one_chain(self) -> None:
        """I8: what one validator stored, no other contradicts."""
        longest = max(self.blocks, key=len)
        for stored in self.blocks:
            assert [self.header(data) for data in stored] == [self.header(data) for data in longest[: len(stored)]]

    def header(self, data: bytes) -> bytes:
        return data[: data.index(b"\xabcertificate")]

    def teardown(self) -> None:
        """Without loss everything comes to an end, the same everywhere (I9)."""
        for _ in range(60):
            self.pass_time(RETRY)
            while self.network:
                self.hand(*self.network.pop(0))
            if len({len(stored) for stored in self.blocks}) == 1 and self.blocks[0]:
                break
        tips = {machine.height for machine in self.machines}
        assert len(tips) == 1
        rebuilt = [Orderer(key, self.genesis, self.blocks[n]).ledger.encode() for n, key in enumerate(KEYS)]
        assert len(set(rebuilt)) == 1


QuorumMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25)
TestQuorum = QuorumMachine.TestCase
