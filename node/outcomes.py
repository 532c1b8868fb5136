"""Waiting for the ledger's word on an operation, for commands whose caller wants to hear it."""

from __future__ import annotations

from collections.abc import Callable

import trio

from protocol.effects import Effect
from protocol.errors import Refused, Unavailable
from protocol.ledger import Ledger
from protocol.ledger_client import Ordered
from protocol.units import Digest, Micros


class Outcomes:
    """A listener of the ledger client that wakes whoever waits for an operation."""

    def __init__(self, ledger: Callable[[], Ledger]) -> None:
        self._ledger = ledger
        self._ordered: dict[Digest, Ordered] = {}
        self._waiting: dict[Digest, trio.Event] = {}
        self._grown = trio.Event()

    def ordered(self, event: Ordered, now: Micros) -> list[Effect]:
        """The ledger decided; only operations that somebody waits for are kept."""
        waiting = self._waiting.get(Digest(event.outcome.op))
        if waiting is not None:
            self._ordered[Digest(event.outcome.op)] = event
            waiting.set()
        return []

    def grown(self) -> None:
        """The local replica of the ledger has new blocks."""
        self._grown.set()
        self._grown = trio.Event()

    async def applied(self, op: Digest, timeout_s: float) -> None:
        """Return once the operation is applied *and* this node's own replica shows it; refusals are raised."""
        event = self._waiting.setdefault(op, trio.Event())
        try:
            with trio.fail_after(timeout_s):
                await event.wait()
                ordered = self._ordered[op]
                while self._ledger().height < ordered.header.height:
                    await self._grown.wait()
        except trio.TooSlowError:
            raise Unavailable(
                f"no validator confirmed the operation within {timeout_s:g} s",
                code="ledger_silent",
                fix="Ask again with the same reference.",
            ) from None
        finally:
            self._waiting.pop(op, None)
            outcome = self._ordered.pop(op, None)
        if outcome is not None and not outcome.is_applied:
            raise Refused(f"the ledger refused it: {outcome.outcome.detail}", code=outcome.outcome.code)
