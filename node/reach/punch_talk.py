"""What two peers say to each other when they punch: drives the machine of `protocol.overlay.punch` over one stream.

DCUtR on the wire. Spec: specs/20-relays.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio
from libp2p.abc import IHost, INetStream

from node.clock import Clock
from node.reach.circuit_messages import DCUTR_PROTOCOL, MessageReader, say_punch
from node.reach.punch_dials import PunchDials
from node.reach.relayed_connection import is_relayed, open_eagerly
from node.streams import reset
from protocol.errors import RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.overlay.punch import Dial, Dialling, Effect, Ended, Open, Punch, Send
from protocol.units import SECOND, PeerId

BESIDE_S: Final = 0.25
"""So long after its dials from the listening port, the initiator dials from any port too, as a client: a router that
lets in everybody, or every port of a host that was knocked at, is passed so even from behind a symmetric one."""


class PunchTalk:
    """Conversations of one node. `dials` does the dialling; `punish` hears of peers that break the rules."""

    def __init__(
        self, host: IHost, dials: PunchDials, punish: Callable[[RemoteViolation], Awaitable[None]], clock: Clock
    ) -> None:
        self._host = host
        self._dials = dials
        self._punish = punish
        self._clock = clock

    async def hold(self, punch: Punch, effects: tuple[Effect, ...], stream: INetStream | None) -> None:
        """Until the machine has ended. `stream` is the other side's when it began; else `effects` open one."""
        reader = None if stream is None else MessageReader(stream, punch.peer)
        opened: list[INetStream] = []
        try:
            while not isinstance(punch.state, Ended):
                try:
                    for effect in effects:
                        match effect:
                            case Open():
                                stream = await self._open(punch.peer)
                                opened.append(stream)
                                reader = MessageReader(stream, punch.peer, DCUTR_PROTOCOL)
                            case Send(message=message) if stream is not None:
                                await say_punch(stream, message)
                            case Dial():
                                await self._dial(punch.peer, effect)
                    effects = await self._next(punch, reader)
                except Unavailable as error:
                    effects = punch.failed(error.detail, self._clock.now())
        except RemoteViolation as error:
            await self._punish(error)
        finally:
            for one in opened:
                await reset(one)

    async def _next(self, punch: Punch, reader: MessageReader | None) -> tuple[Effect, ...]:
        """Wait for what the machine waits for."""
        if punch.due is None:
            return ()
        if isinstance(punch.state, Dialling) or reader is None:
            return punch.failed("no dial came through", self._clock.now())
        with trio.move_on_after(max(0, punch.due - self._clock.now()) / SECOND):
            return punch.receive(await reader.punch_message(), self._clock.now())
        return punch.tick(self._clock.now())

    async def _open(self, peer: PeerId) -> INetStream:
        stream = await open_eagerly(self._host, peer, DCUTR_PROTOCOL)
        if not is_relayed(stream):
            await reset(stream)
            raise Unavailable(f"{peer_text(peer)} is connected directly", code="not_relayed")
        return stream

    async def _dial(self, peer: PeerId, dial: Dial) -> None:
        """Until the round is over; the nursery around ends it when a direct connection is there."""
        await trio.sleep(max(0, dial.at - self._clock.now()) / SECOND)
        seconds = max(0, dial.until - self._clock.now()) / SECOND
        self._dials.begin(peer, dial.addresses, dial.role, seconds, is_from_port=True)
        if dial.role == "server":
            await trio.sleep(min(BESIDE_S, seconds))
            seconds = max(0.0, seconds - BESIDE_S)
            self._dials.begin(peer, dial.addresses, "client", seconds, is_from_port=False)
        await trio.sleep(seconds)
