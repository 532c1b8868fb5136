"""Certified blocks by height: what is asked for again, by followers and by submitters who lost a receipt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from protocol.block import decode_block, make_receipts, receipt_tree
from protocol.errors import RemoteViolation
from protocol.messages import Block, Blocks, Outcome, Receipts
from protocol.units import KIB, PeerId

ANSWER_BYTES_MAX: Final = 60 * KIB
"""Encoded blocks in one `Blocks`: below the 64 KiB of a message."""


OUTCOMES_MAX: Final = 65_536
"""Outcomes kept for submitters who lost a receipt, the newest, about 0.2 KB each. Who asks for an older one has its
operation ordered again if it moved free money, which does nothing and has the first outcome."""


class BlockLog:
    """The blocks that the journal holds, and those that it does not hold yet.

    `stored` may grow behind our back (a journal does); blocks that it has are forgotten here."""

    def __init__(self, stored: Sequence[bytes]) -> None:
        self._stored = stored
        self._tail: dict[int, bytes] = {}
        self._outcomes: dict[int, tuple[Outcome, ...]] = {}
        self._count = 0
        self.tip = 0

    def remember(self, outcomes: tuple[Outcome, ...]) -> None:
        """The next stored block was replayed with these outcomes."""
        self.tip += 1
        if outcomes:
            self._outcomes[self.tip] = outcomes
            self._count += len(outcomes)
        while self._count > OUTCOMES_MAX:
            self._count -= len(self._outcomes.pop(next(iter(self._outcomes))))

    def add(self, data: bytes, outcomes: tuple[Outcome, ...]) -> None:
        """The next block, encoded, with the outcomes of its operations."""
        self.remember(outcomes)
        self._tail[self.tip] = data
        while self._tail and (oldest := next(iter(self._tail))) <= len(self._stored):
            del self._tail[oldest]

    def __iter__(self) -> Iterator[bytes]:
        return (self[height] for height in range(1, self.tip + 1))

    def __getitem__(self, height: int) -> bytes:
        data = self._tail.get(height)
        return self._stored[height - 1] if data is None else data

    def answer(self, height: int) -> Blocks:
        """Blocks from `height` on, as many as fit one message; none when there are none."""
        blocks: list[Block] = []
        size = 0
        while 1 <= height <= self.tip:
            data = self[height]
            size += len(data)
            if blocks and size > ANSWER_BYTES_MAX:
                break
            blocks.append(decode_block(data, PeerId(bytes(32))))
            height += 1
        return Blocks(tuple(blocks), self.tip)

    def newest(self, count: int) -> Iterator[Receipts]:
        """All receipts of the newest blocks, as they were given out, oldest first."""
        me = PeerId(bytes(32))
        for height in range(max(1, self.tip - count + 1), self.tip + 1):
            if outcomes := self._outcomes.get(height):
                block, indexes = decode_block(self[height], me), range(len(outcomes))
                yield from make_receipts(block, outcomes, indexes, receipt_tree(outcomes))

    def has_outcomes(self, height: int) -> bool:
        """Whether those of this block are kept."""
        return height in self._outcomes

    def receipts(self, height: int, op_id: bytes, sender: PeerId) -> list[Receipts]:
        """The receipt of one operation, again. Raises `RemoteViolation` when the block does not hold it."""
        outcomes = self._outcomes[height]
        indexes = [index for index, outcome in enumerate(outcomes) if outcome.op == op_id][:1]
        if not indexes:
            raise RemoteViolation(sender, f"operation {op_id.hex()[:16]} is not in block {height}", code="no_receipt")
        return make_receipts(decode_block(self[height], sender), outcomes, indexes, receipt_tree(outcomes))
