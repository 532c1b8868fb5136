"""The witness: dials a peer back when it asks, and signs what came of it.

It dials only the IP address from which the asker's own connection comes, so that nobody can point it at others, and
within budgets. Spec: specs/21-reach.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

import trio

from node.clock import Clock
from node.dialer import Dialer
from node.reach.knock import knock
from node.requests import Requests
from protocol.errors import Refused
from protocol.identity import Identity, peer_text
from protocol.overlay.dial_budget import DialBudget
from protocol.overlay.endpoint import Endpoint, endpoint
from protocol.overlay.verdicts import (
    ADDRESSES_MAX,
    KIND,
    DialBack,
    DialledBack,
    Outcome,
    Verdict,
    dial_back_decoder,
    sign_verdict,
)
from protocol.units import PeerId

DIALS_MAX: Final = 16
"""Dials for others under way at a time; more are declined, not queued: the asker has a deadline."""

log: Final = logging.getLogger("shoal.reach")


class DialBackServer:
    """Answers `reach`. `serve` it on the node's requests."""

    def __init__(self, identity: Identity, network: str, dialer: Dialer, clock: Clock, counts: Counter[str]) -> None:
        self._identity = identity
        self._network = network
        self._dialer = dialer
        self._clock = clock
        self._counts = counts
        self._budget = DialBudget()
        self._busy = 0

    def serve(self, requests: Requests) -> None:
        """Answer from now on."""
        requests.serve(KIND, dial_back_decoder, self.answer)

    async def answer(self, asker: PeerId, question: DialBack) -> DialledBack:
        """Dial and sign. Refused: the asker is connected through a relay only, or the budget is used up."""
        ends = endpoints_of(self._dialer, asker)
        if not ends:
            raise Refused(
                "you are connected through a relay: there is no address of yours to dial",
                code="no_direct_connection",
                fix="Ask a peer that you are connected to directly.",
            )
        here = {end.ip for end in ends}
        named = list(dict.fromkeys(found for text in question.addresses if (found := endpoint(text)) is not None))
        targets = [target for target in named if target.ip in here]
        if self._busy + len(targets) > DIALS_MAX:
            raise Refused(f"{DIALS_MAX} dials for others are under way", code="dial_budget", fix="Ask another peer.")
        for target in targets:
            self._budget.spend(asker, target.ip, 1, self._clock.now())
        outcomes = await self._dial(asker, targets)
        verdicts = tuple(
            sign_verdict(
                self._identity,
                self._network,
                Verdict(asker, target.text, outcome, question.nonce, self._clock.now()),
            )
            for target, outcome in outcomes.items()
        )
        return DialledBack(verdicts, ends[0].text, tuple(end.text for end in ends[1 : 1 + ADDRESSES_MAX]))

    async def _dial(self, asker: PeerId, targets: list[Endpoint]) -> dict[Endpoint, Outcome]:
        """All of them at once; what each came to."""
        outcomes: dict[Endpoint, Outcome] = {}

        async def dial(target: Endpoint) -> None:
            self._counts["dials_back"] += 1
            outcomes[target] = await knock(target.ip, target.port, asker)
            log.debug("%s at %s: %s", peer_text(asker), target.text, outcomes[target])

        self._busy += len(targets)
        try:
            async with trio.open_nursery() as nursery:
                for target in targets:
                    nursery.start_soon(dial, target)
        finally:
            self._busy -= len(targets)
        return outcomes


def endpoints_of(dialer: Dialer, peer: PeerId) -> list[Endpoint]:
    """Where a peer's direct connections end, one for each of its IP addresses."""
    found: dict[str, Endpoint] = {}
    for path in dialer.paths(peer):
        end = endpoint(path.address) if path.kind != "relayed" else None
        if end is not None:
            found.setdefault(end.ip, end)
    return list(found.values())
