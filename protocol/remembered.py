"""Which outcomes the ledger still remembers, so that a repeated operation gets its first one again and does nothing.

Not for good. An operation on an escrow is forgotten with its escrow, which refuses everything from then on. Any other
is forgotten when it is old, and refused by what it left: its sequence or its reference is used up, its promise is kept,
its beacon is over, its day is past. Spec: specs/06-ledger.md.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final

from protocol.closing import KEPT_TIME
from protocol.escrow import SEQUENCED
from protocol.escrow_state import Bygone
from protocol.messages import Outcome
from protocol.operations import Operation

REMEMBERED_TIME: Final = KEPT_TIME
"""µs for which an operation on no escrow is remembered: longer than the two days for which an `Absence`, which leaves
nothing else behind, may be said, and long enough for who was away and asks again."""

REMEMBERED_MIN: Final = 1_024
"""Such operations that are remembered however old they are, the newest."""


class Remembered:
    """What became of operations that left a trace."""

    def __init__(self) -> None:
        self.outcomes: dict[bytes, tuple[int, Outcome]] = {}
        """Operation id -> (height, outcome)."""
        self._dated: deque[tuple[int, bytes]] = deque()
        """(ledger time, id) of operations on no escrow, oldest first."""
        self._of: dict[bytes, list[bytes]] = {}
        """Ids of the others, by escrow."""
        self._over = 0
        """Escrows whose operations are forgotten."""

    def add(self, operation: Operation, outcome: Outcome, height: int, time: int) -> None:
        """The first outcome of an operation."""
        self.outcomes[outcome.op] = (height, outcome)
        escrow: bytes | None = None if isinstance(operation, SEQUENCED) else getattr(operation, "escrow", None)
        if escrow is None:
            self._dated.append((time, outcome.op))
        else:
            self._of.setdefault(escrow, []).append(outcome.op)

    def forget(self, bygone: dict[bytes, Bygone], time: int) -> None:
        """What can do nothing any more. `bygone`: escrows that the ledger has forgotten, oldest first."""
        for escrow in islice(reversed(bygone), len(bygone) - self._over):
            for op_id in self._of.pop(escrow, ()):
                del self.outcomes[op_id]
        self._over = len(bygone)
        while len(self._dated) > REMEMBERED_MIN and self._dated[0][0] + REMEMBERED_TIME < time:
            del self.outcomes[self._dated.popleft()[1]]
