"""Operations that wait for a block, in order of arrival."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from protocol.block import BLOCK_OPS_BYTES_MAX, BLOCK_OPS_MAX, op_size
from protocol.errors import Refused
from protocol.ledger import Checked
from protocol.operations import SignedOp
from protocol.units import Micros, PeerId

POOL_OPS_MAX: Final = 8_192
"""Operations that may wait while a quorum is slow; more are refused, so that memory stays bounded."""


@dataclass(slots=True)
class Waiting:
    """One operation, verified once on arrival, and who handed it in."""

    checked: Checked
    since: Micros
    submitters: set[PeerId] = field(default_factory=set)


class Pool:
    """First come, first ordered; the same bytes wait once."""

    def __init__(self) -> None:
        self._queue: deque[Waiting] = deque()
        self._known: dict[SignedOp, Waiting] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def since(self) -> Micros:
        """When the oldest arrived."""
        return self._queue[0].since

    @property
    def is_full_block(self) -> bool:
        """Whether the next block would be full."""
        return len(self._queue) >= BLOCK_OPS_MAX or self._size >= BLOCK_OPS_BYTES_MAX

    def find(self, signed: SignedOp) -> Waiting | None:
        """The same bytes, if they wait already."""
        return self._known.get(signed)

    def check_room(self, count: int) -> None:
        """Raise `Refused` (`pool_full`) unless so many more may wait."""
        if len(self._queue) + count > POOL_OPS_MAX:
            raise Refused(
                f"{len(self._queue)} operations wait, at most {POOL_OPS_MAX} may",
                code="pool_full",
                fix="Submit again in a few seconds.",
                numbers={"waiting": len(self._queue), "limit": POOL_OPS_MAX},
            )

    def add(self, checked: Checked, now: Micros, submitter: PeerId) -> None:
        """Let a verified operation wait; one that waits already gains a submitter."""
        known = self._known.get(checked.signed)
        if known is not None:
            known.submitters.add(submitter)
            return
        waiting = Waiting(checked, now, {submitter})
        self._queue.append(waiting)
        self._known[checked.signed] = waiting
        self._size += op_size(checked.signed)

    def take(self) -> list[Waiting]:
        """The operations of the next block: the oldest that fit."""
        taken: list[Waiting] = []
        size = 0
        while self._queue and len(taken) < BLOCK_OPS_MAX:
            size += op_size(self._queue[0].checked.signed)
            if taken and size > BLOCK_OPS_BYTES_MAX:
                break
            waiting = self._queue.popleft()
            del self._known[waiting.checked.signed]
            self._size -= op_size(waiting.checked.signed)
            taken.append(waiting)
        return taken
