"""Asks random peers whether they can dial us, every ten minutes and when our address changes. Drives `Reachability`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio

from node import entropy
from node.clock import Clock
from node.dialer import Dialer
from node.reach.dial_back import endpoints_of
from node.reach.knock import CONNECT_S, PROOF_S
from node.requests import Requests
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.overlay.reachability import Ask, Contradicted, Reachability, ReachEffect, Settled, Witness
from protocol.overlay.verdicts import KIND, NONCE_BYTES, DialledBack, dialled_back_decoder
from protocol.units import PeerId

ASK_S: Final = CONNECT_S + PROOF_S + 4.0
"""Deadline of one question: the witness's own deadlines, and the way there and back."""

LOOK_S: Final = 1.0
"""Seconds between looks whether a round is due and somebody could be asked."""

NEWCOMERS_S: Final = 3.0
"""Least seconds between rounds while nothing is known: each newcomer may be the witness that was missing."""

log: Final = logging.getLogger("shoal.reach")


class Witnesses:
    """`run` it in a task. `heard(witness, reply)` gets every reply: it tells how the witness sees us."""

    def __init__(
        self,
        machine: Reachability,
        requests: Requests,
        dialer: Dialer,
        clock: Clock,
        peers: Callable[[], Iterable[PeerId]],
        addresses: Callable[[], Iterable[str]],
        heard: Callable[[PeerId, DialledBack], None],
    ) -> None:
        self.machine = machine
        self._requests = requests
        self._dialer = dialer
        self._clock = clock
        self._peers = peers
        self._addresses = addresses
        self._heard = heard
        self.punish: Callable[[RemoteViolation], Awaitable[None]] | None = None
        self._asked_of = 0
        self._begun = -NEWCOMERS_S
        self.settled = trio.Event()
        """Set and replaced when a round ends."""

    async def run(self) -> None:
        """Rounds until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                if not self.machine.is_asking and self._is_due():
                    self.begin(nursery)
                await trio.sleep(LOOK_S)

    def _is_due(self) -> bool:
        """The machine says so, or more could be asked than last time and nothing is known yet."""
        if self.machine.due <= self._clock.now():
            return True
        is_early = trio.current_time() < self._begun + NEWCOMERS_S
        return self.machine.state == "unknown" and not is_early and len(self._candidates()) > self._asked_of

    def begin(self, nursery: trio.Nursery) -> None:
        """One round, now. Without anybody to ask nothing happens."""
        witnesses = self._candidates()
        addresses = tuple(self._addresses())
        if witnesses and addresses:
            self._asked_of, self._begun = len(witnesses), trio.current_time()
            nonce = entropy.seed()[:NONCE_BYTES]
            self._act(self.machine.begin(nonce, addresses, witnesses, self._clock.now()), nursery)

    def _candidates(self) -> list[Witness]:
        return [Witness(peer, end.ip) for peer in self._peers() for end in endpoints_of(self._dialer, peer)[:1]]

    def _act(self, effects: list[ReachEffect], nursery: trio.Nursery) -> None:
        for effect in effects:
            match effect:
                case Ask():
                    nursery.start_soon(self._ask, effect, nursery)
                case Contradicted(peer=peer, address=address, outcome=outcome):
                    log.warning("%s alone says %r of %s", peer_text(peer), outcome, address)
                case Settled(before=before, after=after, addresses=addresses):
                    if before != after:
                        log.info("this node is %s: %s", after, ", ".join(addresses) or "no peer could dial it")
                    self.settled.set()
                    self.settled = trio.Event()

    async def _ask(self, ask: Ask, nursery: trio.Nursery) -> None:
        machine = self.machine
        try:
            reply = await self._requests.ask(ask.peer, KIND, ask.question, dialled_back_decoder, ASK_S)
            effects = machine.answered(ask.peer, reply, self._clock.now())
            self._heard(ask.peer, reply)
        except (Unavailable, Refused) as error:
            log.debug("%s is no witness: %s", peer_text(ask.peer), error.detail)
            effects = machine.failed(ask.peer, self._clock.now())
        except RemoteViolation as violation:
            if self.punish is not None:
                await self.punish(violation)
            effects = machine.failed(ask.peer, self._clock.now())
        self._act(effects, nursery)
