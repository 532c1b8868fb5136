"""What a node does all the time to stay in the network: bootstraps, a few neighbours, and a memory of both."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from node.addresses import Backoff
from node.dialer import Dialer
from node.peer_cache import PeerCache
from node.sessions import Sessions
from protocol.errors import Unavailable
from protocol.identity import peer_text
from protocol.units import PeerId

UPKEEP_S: Final = 5.0
"""Seconds between looks at the neighbours."""

SAVE_S: Final = 30.0
"""Seconds between looks at whether the peer cache has news for the disk."""

log: Final = logging.getLogger("shoal.transport")


async def keep_connected(peer: PeerId, dialer: Dialer, sessions: Sessions) -> None:
    """Stay connected to a bootstrap, for ever: dial, wait until it is gone, dial again with back-off."""
    backoff = dialer.backoff()
    while True:
        changed = sessions.changed
        if peer in sessions.up:
            backoff.reset()
            await changed.wait()
            continue
        try:
            await dialer.connect(peer)
        except Unavailable as error:
            log.info("bootstrap %s: %s", peer_text(peer), error.detail)
        await trio.sleep(backoff.next())


async def keep_neighbours(wanted: int, me: PeerId, dialer: Dialer, sessions: Sessions) -> None:
    """While fewer than `wanted` peers are up, dial some that are known: the network outlives its bootstraps."""
    backoffs: dict[PeerId, tuple[float, Backoff]] = {}
    while True:
        missing = wanted - len(sessions.up)
        now = trio.current_time()
        for peer in list(backoffs):
            if peer in sessions.up:
                del backoffs[peer]
        idle = [
            peer
            for peer in dialer.book.all()
            if peer != me and peer not in sessions.up and backoffs.get(peer, (0.0, None))[0] <= now
        ]
        for peer in dialer.dice.sample(idle, min(max(missing, 0), len(idle))):
            _, backoff = backoffs.get(peer, (0.0, dialer.backoff()))
            try:
                await dialer.connect(peer)
            except Unavailable as error:
                log.debug("neighbour: %s", error.detail)
            backoffs[peer] = (trio.current_time() + backoff.next(), backoff)
        with trio.move_on_after(UPKEEP_S * dialer.dice.uniform(0.5, 1.0)):
            await dialer.book.changed.wait()


async def keep_cache(cache: PeerCache, snapshot: Callable[[], dict[PeerId, tuple[str, ...]]]) -> None:
    """Write known addresses to the disk now and then."""
    while True:
        await trio.sleep(SAVE_S)
        await trio.to_thread.run_sync(cache.save, snapshot())
