"""Orders the ledger: gathers operations, proposes blocks, certifies them with a quorum, tells those concerned.

The first validator of the genesis leads; with one validator its own vote is the quorum. Spec: specs/08-blocks.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from protocol import wire
from protocol.block import certify, header_hash, is_vote, make_receipts, receipt_tree
from protocol.chain import clock_step
from protocol.completions import Completion
from protocol.effects import Effect, Emit, Fail, Send, Store, Wake
from protocol.errors import LocalError, RemoteViolation
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.ledger import Checked, Ledger, check
from protocol.messages import Block, Blocks, BlocksRequest, Head, Header, Message, Outcome, Proposal, Submit, Vote
from protocol.operations import Bond, Mint, Signature, Transfer, Unbond, WithdrawEnd, WithdrawExt
from protocol.units import Micros, PeerId
from verifier.block_log import BlockLog
from verifier.head_gossip import HeadGossip
from verifier.parties import parties
from verifier.pool import Pool
from verifier.replica import Draft, Replica
from verifier.verdicts import Verdicts

GATHER: Final = Micros(15_000)
"""How long the first operation of a block waits for others, µs: one fsync and one certificate serve them all."""

HEARTBEAT: Final = Micros(4_000_000)
"""An idle ledger makes an empty block this often, µs: sooner than CLOCK_STEP_MAX, so that its clock keeps pace."""

RETRY: Final = Micros(1_000_000)
"""A proposal without a quorum, or a block request without an answer, is sent again after so many µs."""

AGAIN: Final = (Mint, WithdrawExt, WithdrawEnd, Transfer, Bond, Unbond)
"""What is ordered again, for its first outcome, where its receipt is too old to be kept: only who waits for it hears of
it. What was done in an escrow or for a beacon is not: judges and stewards would hear it as news, from anybody who sends
old bytes. Their ledgers have it."""

_proposal_decoder: Final = wire.decoder(Proposal)


class Orderer:
    """One validator's part in ordering. Never votes for two blocks of one height, not even across a restart."""

    accepts: tuple[type, ...] = (Submit, Proposal, Vote, BlocksRequest, Blocks)

    def __init__(
        self, identity: Identity, genesis: Genesis, stored_blocks: Sequence[bytes], voted: bytes | None = None
    ) -> None:
        """`stored_blocks[i]` is block i + 1; `voted` is what was last stored under the key `vote`."""
        self._identity = identity
        self._chain_name = genesis.chain
        self._validators = genesis.validator_set
        self._others = tuple(peer for peer in self._validators.peers if peer != identity.peer)
        self._replica = Replica(genesis, stored_blocks)
        self._pool = Pool(self._validators)
        self._verdicts = Verdicts(self._validators)
        self._gossip = HeadGossip(identity, genesis.chain)
        self._proposed_at: Micros | None = None
        self._sent_at = Micros(0)
        self._asked_at: Micros | None = None
        if voted is not None:
            proposal = wire.decode(voted, _proposal_decoder, identity.peer)
            if proposal.header.height == self.height + 1:
                self._replica.execute(proposal, identity.peer, verified=True)

    @property
    def ledger(self) -> Ledger:
        """The executed ledger: at most one block ahead of what is certified."""
        return self._replica.chain.ledger

    @property
    def height(self) -> int:
        """Certified blocks."""
        return self._replica.log.tip

    @property
    def log(self) -> BlockLog:
        """The blocks themselves."""
        return self._replica.log

    @property
    def is_leader(self) -> bool:
        """Whether this validator proposes."""
        return self._validators.leader == self._identity.peer

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        """See `accepts`. Raises `RemoteViolation` or `Refused` and changes nothing."""
        match message:
            case Submit():
                return self._submit(sender, message, now)
            case Proposal():
                return self._proposal(sender, message, now)
            case Vote():
                return self._vote(sender, message, now)
            case BlocksRequest():
                return [Send(sender, self._replica.log.answer(message.height))]
            case Blocks():
                return self._blocks(sender, message, now)
            case _:
                raise LocalError(f"the orderer takes no {type(message).__name__}", code="bad_route")

    def tick(self, now: Micros) -> list[Effect]:
        """Propose what has waited long enough, keep the clock going, send again what got lost."""
        effects = self._lead(now) if self.is_leader else self._ask(now)
        return effects + self._gossip.tick(now)

    # ── leading ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _submit(self, sender: PeerId, message: Submit, now: Micros) -> list[Effect]:
        """Operations to order. One that is decided already gets its old receipt instead."""
        new: list[Checked] = []
        effects: list[Effect] = []
        again = [waiting for signed in message.operations if (waiting := self._pool.find(signed)) is not None]
        for signed in message.operations:
            if self._pool.find(signed) is not None:
                continue
            checked = check(signed, self._chain_name, sender)
            height, _ = self.ledger.outcomes.get(checked.op_id, (0, None))
            if self._replica.log.has_outcomes(height):
                effects += [Send(sender, item) for item in self._replica.log.receipts(height, checked.op_id, sender)]
            elif height == 0 or (height <= self.height and isinstance(checked.operation, AGAIN)):
                new.append(checked)
        if self.is_leader:
            new = [whole for checked in new if (whole := self._verdicts.gather(checked)) is not None]
        if not self.is_leader:
            return [*effects, Send(self._validators.leader, message)] if new else effects
        self._pool.check_room(new, sender)
        for waiting in again:
            waiting.submitters.add(sender)
        for checked in new:
            self._pool.add(checked, now, sender)
        return [*effects, *self._lead(now)]

    def _lead(self, now: Micros) -> list[Effect]:
        """Propose as long as something is ready and the last block is certified."""
        if self._proposed_at is None:
            self._proposed_at = now
        effects: list[Effect] = []
        draft = self._replica.draft
        if draft is not None and self._identity.peer not in draft.votes:  # taken up again after a restart
            effects += self._count(certify(self._identity, draft.header), now)
        while self._replica.draft is None and self._is_ready(now):
            taken = self._pool.take()
            submitters = [frozenset(item.submitters) for item in taken]
            effects += self._propose([item.checked for item in taken], submitters, now)
        draft = self._replica.draft
        if draft is None:
            due = self._pool.since + GATHER if len(self._pool) else self._proposed_at + HEARTBEAT
            return [*effects, Wake(Micros(due))]
        if now - self._sent_at >= RETRY:
            self._sent_at = now
            effects += [Send(peer, draft.proposal) for peer in self._others if peer not in draft.votes]
        return [*effects, Wake(Micros(self._sent_at + RETRY))]

    def _is_ready(self, now: Micros) -> bool:
        """A block is due: full, its first operation has waited long enough, or the clock must go on."""
        if len(self._pool):
            return self._pool.is_full_block or now - self._pool.since >= GATHER
        return self._proposed_at is not None and now - self._proposed_at >= HEARTBEAT

    def _propose(self, operations: list[Checked], submitters: list[frozenset[PeerId]], now: Micros) -> list[Effect]:
        assert self._proposed_at is not None
        time = Micros(self.ledger.time + clock_step(now - self._proposed_at))
        self._proposed_at = self._sent_at = now
        draft = self._replica.make(operations, submitters, time)
        sends: list[Effect] = [Send(peer, draft.proposal) for peer in self._others]
        own = certify(self._identity, draft.header)
        # Whatever carries this signature leaves only after it is on disk: here the vote, with one validator the block.
        stored: list[Effect] = [Store("vote", wire.encode(draft.proposal))] if sends else []
        return [*stored, *sends, *self._count(own, now)]

    def _vote(self, sender: PeerId, message: Vote, now: Micros) -> list[Effect]:
        if sender not in self._validators or message.signature.signer != sender:
            raise RemoteViolation(
                sender, "a vote by somebody who is no validator, or in another's name", code="bad_vote"
            )
        draft = self._replica.draft
        if not self.is_leader or draft is None or message.height != draft.header.height:
            return []
        if message.header != self._replica.chain.head_hash or not is_vote(draft.header, message.signature):
            raise RemoteViolation(sender, f"a vote for another block {message.height}", code="bad_vote")
        return [*self._count(message.signature, now), *self._lead(now)]

    def _count(self, vote: Signature, now: Micros) -> list[Effect]:
        """One vote more; with a quorum the block is certified."""
        draft = self._replica.draft
        assert draft is not None
        draft.votes[vote.signer] = vote
        if not self._validators.is_quorum(draft.votes):
            return []
        certificate = tuple(draft.votes[peer] for peer in self._validators.peers if peer in draft.votes)
        return self._certified(Block(draft.header, certificate, draft.proposal.operations), draft, now)

    def _certified(self, block: Block, draft: Draft, now: Micros) -> list[Effect]:
        """On disk first; then receipts to those concerned, the block to the validators, the head to everybody."""
        effects = self._keep(block, draft.outcomes)
        tree = receipt_tree(draft.outcomes)
        concerned: dict[PeerId, list[int]] = {}
        for index, (checked, submitters) in enumerate(zip(draft.operations, draft.submitters, strict=True)):
            for peer in parties(self.ledger, checked) | submitters | {self._identity.peer}:
                concerned.setdefault(peer, []).append(index)
        for peer in sorted(concerned):
            effects += [Send(peer, item) for item in make_receipts(block, draft.outcomes, concerned[peer], tree)]
        effects += [Send(peer, Blocks((block,), self.height)) for peer in self._others]
        return [*effects, *self._gossip.announce(Head(block.header, block.certificate), now)]

    # ── following the leader ─────────────────────────────────────────────────────────────────────────────────────────
    def _proposal(self, sender: PeerId, message: Proposal, now: Micros) -> list[Effect]:
        """Execute the leader's block and vote for it; for one block per height, whatever the leader says."""
        header = message.header
        if self.is_leader or sender != self._validators.leader:
            raise RemoteViolation(sender, "a proposal by somebody who does not lead", code="bad_proposal")
        if header.height <= self.height:
            return []
        if header.height > self.height + 1:
            return self._ask(now)
        if self._replica.draft is not None:
            if self._replica.draft.header != header:
                raise RemoteViolation(sender, f"two proposals for block {header.height}", code="double_proposal")
            return [self._ballot(header)]
        self._replica.execute(message, sender, verified=False)
        return [Store("vote", wire.encode(message)), self._ballot(header)]

    def _ballot(self, header: Header) -> Send:
        vote = Vote(header.height, header_hash(header), certify(self._identity, header))
        return Send(self._validators.leader, vote)

    def _blocks(self, sender: PeerId, message: Blocks, now: Micros) -> list[Effect]:
        """Certified blocks, from whomever: our draft, or what we missed. The leader made them all and misses none."""
        effects: list[Effect] = []
        for block in message.blocks:
            if self.is_leader or block.header.height != self.height + 1:
                continue
            try:
                effects += self._accept(sender, block)
            except RemoteViolation as error:
                if not effects:
                    raise
                return [*effects, Fail(error)]
        if not effects:
            return []
        self._asked_at = None
        return [*effects, *self._ask(now)] if message.tip > self.height else effects

    def _accept(self, sender: PeerId, block: Block) -> list[Effect]:
        outcomes = self._replica.accept(block, sender)
        effects = self._keep(block, outcomes)
        receipts = make_receipts(block, outcomes, range(len(outcomes)), receipt_tree(outcomes))
        return [*effects, *(Send(self._identity.peer, item) for item in receipts)]

    def _ask(self, now: Micros) -> list[Effect]:
        """Ask the leader for what comes next, at most once per RETRY."""
        if self._asked_at is not None and now - self._asked_at < RETRY:
            return [Wake(Micros(self._asked_at + RETRY))]
        self._asked_at = now
        return [Send(self._validators.leader, BlocksRequest(self.height + 1)), Wake(Micros(now + RETRY))]

    # ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _keep(self, block: Block, outcomes: tuple[Outcome, ...]) -> list[Effect]:
        """A certified block is on disk before anybody hears of it."""
        data = self._replica.keep(block, outcomes)
        fields: dict[str, str | int] = {"height": block.header.height, "operations": len(outcomes)}
        return [Store(f"block/{block.header.height}", data), Emit("block", fields)]
