"""One validator's copy of the chain: certified blocks, and at most one that is executed but not certified yet.

The draft is also the lock that keeps a validator from voting twice at one height. Spec: specs/08-blocks.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocol import wire
from protocol.block import BLOCK_OPS_BYTES_MAX, check_block, check_operations, op_size
from protocol.chain import Chain
from protocol.errors import RemoteViolation
from protocol.genesis import Genesis
from protocol.ledger import Checked
from protocol.messages import Block, Header, Outcome, Proposal
from protocol.operations import Signature
from protocol.units import Micros, PeerId
from verifier.block_log import BlockLog


@dataclass(slots=True)
class Draft:
    """The block in the making: executed here, not certified yet."""

    header: Header
    operations: tuple[Checked, ...]
    outcomes: tuple[Outcome, ...]
    submitters: tuple[frozenset[PeerId], ...]
    votes: dict[bytes, Signature] = field(default_factory=dict)

    @property
    def proposal(self) -> Proposal:
        """The draft as the other validators get it."""
        return Proposal(self.header, tuple(item.signed for item in self.operations))


class Replica:
    """Chain, log and draft, kept in step."""

    def __init__(self, genesis: Genesis, stored_blocks: Sequence[bytes]) -> None:
        """Replays `stored_blocks` (block i + 1 at index i). Raises `LocalError` when they do not add up."""
        self._genesis = genesis
        self.log = BlockLog(stored_blocks)
        self.chain = Chain(genesis)
        self.draft: Draft | None = None
        for outcomes in self.chain.replay(stored_blocks):
            self.log.remember(outcomes)

    def make(self, operations: Sequence[Checked], submitters: Sequence[frozenset[PeerId]], time: Micros) -> Draft:
        """Execute operations as the next block."""
        header, outcomes = self.chain.extend(operations, time)
        self.draft = Draft(header, tuple(operations), outcomes, tuple(submitters))
        return self.draft

    def execute(self, proposal: Proposal, sender: PeerId, verified: bool) -> None:
        """Make a leader's proposal the draft. Raises `RemoteViolation` with nothing changed."""
        header = proposal.header
        self.chain.check_link(header, sender)
        if sum(op_size(item) for item in proposal.operations) > BLOCK_OPS_BYTES_MAX:
            raise RemoteViolation(sender, f"block {header.height} is too large", code="over_limit")
        operations = check_operations(header, proposal.operations, self._genesis.chain, sender, verified)
        draft = self.make(operations, (frozenset[PeerId](),) * len(operations), Micros(header.time))
        if draft.header != header:
            self._rebuild()
            raise RemoteViolation(sender, f"block {header.height}: its operations give other roots", code="bad_block")

    def accept(self, block: Block, sender: PeerId) -> tuple[Outcome, ...]:
        """Take a certified next block, our draft or not. Raises `RemoteViolation` with nothing changed."""
        draft = self.draft
        if draft is not None:
            check_block(block, self.chain.ledger.validators, sender)
        if draft is not None and draft.header == block.header:
            return draft.outcomes
        if draft is not None:
            if block.header.previous != draft.header.previous:
                raise RemoteViolation(sender, f"block {block.header.height} does not follow ours", code="bad_link")
            self._rebuild()
        return self.chain.follow(block, sender)

    def keep(self, block: Block, outcomes: tuple[Outcome, ...]) -> bytes:
        """A certified block goes to the log; its bytes, for the disk."""
        data = wire.encode(block)
        self.log.add(data, outcomes)
        self.draft = None
        return data

    def _rebuild(self) -> None:
        """Back to the last certified block, by replay: rare, and exact."""
        self.chain = Chain(self._genesis)
        self.chain.replay(self.log)
        self.draft = None
