"""What a node does all the time to stay in the network: bootstraps, neighbours of many kinds, and a memory of both.

Neighbours are kept in several networks and at random ends of the peer-to-peer network, so that neither a provider's
outage nor a crowd in one data centre can cut a node off. Spec: specs/23-discovery.md.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import trio

from node.addresses import Backoff
from node.clock import Clock
from node.dialer import Dialer
from node.peer_cache import PeerCache
from node.sessions import Sessions
from protocol.errors import Refused, Unavailable
from protocol.identity import peer_text
from protocol.overlay.subnets import subnets_of
from protocol.units import PeerId

UPKEEP_S: Final = 5.0
"""Seconds between looks at the neighbours."""

ALONE_S: Final = 5.0
"""Longest wait between dials to a bootstrap while nobody at all is up: nothing else tells that the line is back."""

SAVE_S: Final = 30.0
"""Seconds between looks at whether the peer cache has news for the disk."""

SUBNETS_MIN: Final = 4
"""Networks in which neighbours are, where peers in so many are known."""

FAR_MIN: Final = 2
"""Neighbours at random places of the directory, whom nobody who answers us chose."""

FAR_EVERY_S: Final = 300.0
"""Seconds until a random neighbour is replaced by another one: slowly, as a new one may be anybody."""

ENOUGH: Final = 16
"""Peers that are up besides from which on a bootstrap is left in peace: a large network does not need it."""

BOOTSTRAP_LOOK_S: Final = 15.0
"""Seconds between looks at whether a bootstrap is needed after all."""

log: Final = logging.getLogger("shoal.transport")

Explore = Callable[[], Awaitable[Sequence[PeerId]]]
"""Peers at a random place of the network, their addresses learned; Unavailable or Refused when there are none now."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What kind of neighbours to keep."""

    peers: int
    subnets: int = SUBNETS_MIN
    far: int = FAR_MIN


async def keep_connected(peer: PeerId, dialer: Dialer, sessions: Sessions) -> None:
    """Stay connected to a bootstrap while the network is small: dial, wait until it is gone, dial with back-off."""
    backoff = dialer.backoff()
    while True:
        changed = sessions.changed
        if peer in sessions.up:
            backoff.reset()
            await changed.wait()
            continue
        if len(sessions.up) >= ENOUGH:
            await trio.sleep(BOOTSTRAP_LOOK_S)
            continue
        try:
            await dialer.connect(peer)
        except Unavailable as error:
            log.info("bootstrap %s: %s", peer_text(peer), error.detail)
        wait = backoff.next()
        await trio.sleep(wait if sessions.up else min(wait, ALONE_S))


def newcomers(
    wanted: Wanted,
    up: Collection[PeerId],
    idle: Mapping[PeerId, Iterable[str]],
    subnets: Mapping[PeerId, frozenset[str]],
    dice: Random,
) -> list[PeerId]:
    """Whom to dial: as many as are missing, and while few networks are covered, somebody from each further one.

    `idle`: peers that may be dialled, by address; `subnets`: the networks of those that are up. A peer on loopback or
    in a local network is in no network, so a laboratory of such peers is not asked for diversity."""
    missing = max(0, wanted.peers - len(up))
    covered = frozenset[str]().union(*(subnets.get(peer, frozenset()) for peer in up))
    order = dice.sample(sorted(idle), len(idle))
    chosen: list[PeerId] = []
    for peer in order:
        fresh = subnets_of(idle[peer]) - covered
        if fresh and len(covered) < wanted.subnets:
            chosen.append(peer)
            covered |= fresh
    return chosen + [peer for peer in order if peer not in chosen][: max(0, missing - len(chosen))]


async def keep_neighbours(
    wanted: int | Wanted, me: PeerId, dialer: Dialer, sessions: Sessions, explore: Explore | None = None
) -> None:
    """While neighbours are missing, dial some that are known; with `explore`, keep some random ones too."""
    kind = wanted if isinstance(wanted, Wanted) else Wanted(wanted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep_near, kind, me, dialer, sessions)
        if explore is not None and kind.peers > 0:
            nursery.start_soon(_keep_far, kind, dialer, sessions, explore)


async def _keep_near(wanted: Wanted, me: PeerId, dialer: Dialer, sessions: Sessions) -> None:
    backoffs: dict[PeerId, tuple[float, Backoff]] = {}
    while True:
        now = trio.current_time()
        for peer in list(backoffs):
            if peer in sessions.up:
                del backoffs[peer]
        idle = {
            peer: addresses
            for peer, addresses in dialer.book.all().items()
            if peer != me
            and peer not in sessions.up
            and not dialer.book.is_forbidden(peer)
            and backoffs.get(peer, (0.0, None))[0] <= now
        }
        known = {peer: subnets_of(path.address for path in dialer.paths(peer)) for peer in sessions.up}
        for peer in newcomers(wanted, sessions.up, idle, known, dialer.dice) if wanted.peers else []:
            _, backoff = backoffs.get(peer, (0.0, dialer.backoff()))
            await _try(peer, dialer)
            backoffs[peer] = (trio.current_time() + backoff.next(), backoff)
        with trio.move_on_after(UPKEEP_S * dialer.dice.uniform(0.5, 1.0)):
            await dialer.book.changed.wait()


async def _keep_far(wanted: Wanted, dialer: Dialer, sessions: Sessions, explore: Explore) -> None:
    """A few neighbours at random places: one more now and then, and the oldest of them is no longer held for it."""
    far: list[PeerId] = []
    while True:
        await trio.sleep(UPKEEP_S if len(far) < wanted.far else FAR_EVERY_S * dialer.dice.uniform(0.75, 1.25))
        far = [peer for peer in far if peer in sessions.up]
        try:
            found = [peer for peer in await explore() if peer not in sessions.up and not dialer.book.is_forbidden(peer)]
        except (Unavailable, Refused) as error:
            log.debug("no random peer: %s", error.detail)
            continue
        if not found:
            far += [peer for peer in sorted(sessions.up) if peer not in far][: wanted.far - len(far)]
            continue  # Everybody there is a neighbour already: the network is small.
        peer = dialer.dice.choice(found)
        await _try(peer, dialer)
        if not dialer.is_connected(peer):
            continue
        far.append(peer)
        if len(far) > wanted.far:
            oldest = far.pop(0)
            if len(sessions.up) > max(ENOUGH, 2 * wanted.peers):
                await dialer.disconnect(oldest)


async def _try(peer: PeerId, dialer: Dialer) -> None:
    try:
        await dialer.connect(peer)
    except Unavailable as error:
        log.debug("neighbour: %s", error.detail)


async def keep_cache(
    cache: PeerCache,
    snapshot: Callable[[], dict[PeerId, tuple[str, ...]]],
    up: Callable[[], Iterable[PeerId]] = tuple,
    clock: Clock | None = None,
) -> None:
    """Write known addresses to the disk now and then, and which of them worked last."""
    clock = clock or Clock()
    while True:
        await trio.sleep(SAVE_S)
        cache.worked(up(), clock.now())
        await trio.to_thread.run_sync(cache.save, snapshot())
