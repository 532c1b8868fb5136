"""A ledger and the headers over it: makes the next block, or checks somebody else's. Spec: specs/08-blocks.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from protocol.block import (
    CLOCK_STEP_MAX,
    CLOCK_STEP_MIN,
    check_block,
    decode_block,
    header_hash,
    ops_root,
    receipt_tree,
)
from protocol.errors import LocalError, RemoteViolation
from protocol.genesis import Genesis
from protocol.ledger import Checked, Ledger, run_block
from protocol.messages import Block, Header, Outcome
from protocol.units import Digest, Micros, PeerId


class Chain:
    """The executed blocks of one ledger. `head` is the last header; block 1 follows the genesis."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.ledger = Ledger(genesis)
        self.head: Header | None = None
        self.head_hash: Digest = genesis.digest

    @property
    def height(self) -> int:
        """Executed blocks."""
        return self.ledger.height

    def extend(self, operations: Sequence[Checked], time: Micros) -> tuple[Header, tuple[Outcome, ...]]:
        """Execute operations as the next block, at this ledger time, and make its header."""
        height = self.height + 1
        outcomes = run_block(self.ledger, operations, time)
        signed = tuple(item.signed for item in operations)
        header = Header(
            chain=self.genesis.chain,
            height=height,
            time=time,
            previous=self.head_hash,
            ops_root=ops_root(signed),
            receipts_root=receipt_tree(outcomes).root,
            state_root=self.ledger.state_root(),
            validators=self.ledger.validators.digest,
            count=len(signed),
        )
        self.head, self.head_hash = header, header_hash(header)
        self.ledger.commit(self.head_hash)
        return header, outcomes

    def check_link(self, header: Header, sender: PeerId) -> None:
        """Whether a header can be the next block's. Raises `RemoteViolation` naming what disagrees."""
        if header.height != self.height + 1 or header.previous != self.head_hash:
            raise RemoteViolation(sender, f"block {header.height} does not follow block {self.height}", code="bad_link")
        step = header.time - self.ledger.time
        if not CLOCK_STEP_MIN <= step <= CLOCK_STEP_MAX:
            raise RemoteViolation(
                sender, f"block {header.height} moves the ledger clock by {step} µs", code="bad_clock"
            )

    def follow(self, block: Block, sender: PeerId) -> tuple[Outcome, ...]:
        """Execute a certified block and compare the roots.

        Raises `RemoteViolation` before anything changes; `LocalError` when the roots differ, because then a quorum and
        this machine disagree about the rules, and going on would only hide it."""
        self.check_link(block.header, sender)
        operations = check_block(block, self.ledger.validators, sender)
        header, outcomes = self.extend(operations, Micros(block.header.time))
        if header != block.header:
            names = [name for name in Header.__struct_fields__ if getattr(header, name) != getattr(block.header, name)]
            raise LocalError(
                f"block {header.height}: own {', '.join(names)} differ from the certified ones", code="diverged"
            )
        return outcomes

    def replay(self, blocks: Iterable[bytes]) -> list[tuple[Outcome, ...]]:
        """Follow blocks that this machine stored itself, from the genesis on. Raises `LocalError` naming the height."""
        own = PeerId(bytes(32))
        outcomes = []
        for data in blocks:
            try:
                outcomes.append(self.follow(decode_block(data, own), own))
            except RemoteViolation as error:
                raise LocalError(
                    f"stored block {self.height + 1}: {error.rule}",
                    code="bad_stored_block",
                    fix="Move the journal aside; the node fetches the blocks again from the other validators.",
                ) from error
        self.ledger.check()
        return outcomes


def clock_step(elapsed: int) -> Micros:
    """How far the ledger clock moves when `elapsed` µs have passed on the leader's clock since its last block."""
    return Micros(max(CLOCK_STEP_MIN, min(CLOCK_STEP_MAX, elapsed)))
