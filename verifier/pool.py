"""Operations that wait for a block, in order of arrival."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from protocol.block import BLOCK_OPS_BYTES_MAX, BLOCK_OPS_MAX, op_size
from protocol.errors import Refused
from protocol.ledger import Checked
from protocol.operations import SignedOp
from protocol.units import Micros, PeerId
from protocol.validators import ValidatorSet

POOL_OPS_MAX: Final = 8_192
"""Operations that may wait while a quorum is slow; more are refused, so that memory stays bounded."""

SUBMITTER_OPS_MAX: Final = 1_024
"""Of those so many may have been handed in by one peer: nobody alone keeps the others out. What a quorum of validators
has signed waits beyond that, and counts for nobody."""

RELAYED_OPS_MAX: Final = 4_096
"""The same for a validator, which passes on what others hand in."""

WHOLE_OPS_MAX: Final = 16_384
"""All of them, what a quorum has signed included: anybody can hand in an old one again that the ledger has forgotten,
with other signatures beside it every time."""


@dataclass(slots=True)
class Waiting:
    """One operation, verified once on arrival, and who handed it in."""

    checked: Checked
    since: Micros
    first: PeerId | None
    """Whose share of the room it takes; nobody's where a quorum of validators has signed it."""
    submitters: set[PeerId] = field(default_factory=set)


class Pool:
    """First come, first ordered; the same bytes wait once."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._queue: deque[Waiting] = deque()
        self._known: dict[SignedOp, Waiting] = {}
        self._handed_in: Counter[PeerId] = Counter()
        """By who handed it in first."""
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

    def check_room(self, checked: Sequence[Checked], submitter: PeerId) -> None:
        """Raise `Refused` (`pool_full`) unless these may wait, too."""
        counted = sum(not self._validators.is_quorum(item.signers) for item in checked)
        share = RELAYED_OPS_MAX if submitter in self._validators else SUBMITTER_OPS_MAX
        mine, all_of_them = self._handed_in[submitter], len(self._queue)
        for waiting, more, limit, whose in (
            (mine, counted, share, "of one submitter "),
            (all_of_them, counted, POOL_OPS_MAX, ""),
            (all_of_them, len(checked), WHOLE_OPS_MAX, ""),
        ):
            if more and waiting + more > limit:
                raise Refused(
                    f"{waiting} operations wait, at most {limit} {whose}may",
                    code="pool_full",
                    fix="Submit again in a few seconds.",
                    numbers={"waiting": waiting, "limit": limit},
                )

    def add(self, checked: Checked, now: Micros, submitter: PeerId) -> None:
        """Let a verified operation wait; one that waits already gains a submitter."""
        known = self._known.get(checked.signed)
        if known is not None:
            known.submitters.add(submitter)
            return
        first = None if self._validators.is_quorum(checked.signers) else submitter
        waiting = Waiting(checked, now, first, {submitter})
        self._queue.append(waiting)
        self._known[checked.signed] = waiting
        if first is not None:
            self._handed_in[first] += 1
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
            if waiting.first is not None:
                self._handed_in[waiting.first] -= 1
            self._size -= op_size(waiting.checked.signed)
            taken.append(waiting)
        self._handed_in = +self._handed_in
        return taken
