"""The directory at work: puts its questions to peers, answers theirs, and looks now and then for another half.

    contact = await finder.find(peer)            relays = await finder.find_topic("relay/1")

Spec: specs/23-discovery.md.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Final

import trio

from node.clock import Clock
from node.dialer import Dialer
from node.requests import Requests
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import Identity, peer_text
from protocol.overlay.directory import Directory
from protocol.overlay.directory_effects import Ask, Done, Effect, Fault, Met, Twin
from protocol.overlay.lookup import CLOSEST
from protocol.overlay.own_record import Profile
from protocol.overlay.partition import CrossCheck, Merge
from protocol.overlay.peer_record import Contact, key_of, topic_key
from protocol.overlay.questions import (
    Find,
    Found,
    Keep,
    Kept,
    Question,
    find_decoder,
    found_decoder,
    keep_decoder,
    kept_decoder,
)
from protocol.units import Digest, PeerId

TICK_S: Final = 1.0
"""Seconds between looks at what is due."""

QUESTION_S: Final = 6.0
"""Seconds for a question, dial included: a search meets dead peers and must not wait for them."""

QUESTIONS_MAX: Final = 8
"""Questions under way at a time, of all searches together. Most begin with a handshake, which takes both sides 10 ms of
a core: when a hundred peers of one machine start at once, more of them would run into each other's deadlines."""

CHECK_S: Final = 5.0
"""Seconds between two strangers that are asked whether they are there. A newcomer hears of half the network within a
second; to dial all of it at once would cost everybody a handshake for every newcomer."""

SEARCH_S: Final = 60.0
"""Seconds after which whoever waits for a search gives up."""

GREET_AGAIN_S: Final = 120.0
"""Seconds before a neighbour that did not get into the table is asked again."""

PASSING_S: Final = 60.0
"""Seconds that a connection is kept which was opened for a question only."""

PASSING_MAX: Final = 32
"""Peers that are up beyond which such connections are closed: a small network may stay fully connected."""

log: Final = logging.getLogger("shoal.discovery")


class Finder:
    """One node's directory and cross-check, driven."""

    def __init__(
        self,
        identity: Identity,
        network: str,
        requests: Requests,
        dialer: Dialer,
        clock: Clock,
        punish: Callable[[RemoteViolation], Awaitable[None]],
        counts: Counter[str],
    ) -> None:
        self._me = identity.peer
        self._network = network
        self._requests = requests
        self._dialer = dialer
        self._clock = clock
        self._punish = punish
        self._counts = counts
        self.directory = Directory(identity, network, dialer.dice)
        self.twin_seen: Callable[[str], None] = _say_twin
        """Hears where another node signs with our key."""
        self.check = CrossCheck(identity.peer, clock.now(), dialer.dice)
        self._slots = trio.Semaphore(QUESTIONS_MAX)
        self._nursery: trio.Nursery | None = None
        self._waiting: dict[int, trio.MemorySendChannel[Done]] = {}
        self._greeted: dict[PeerId, float] = {}
        self._passing: dict[PeerId, float] = {}
        self._checks: deque[Ask] = deque()
        """Questions to strangers that can wait."""
        self._check_at = 0.0

    async def run(
        self,
        profile: Callable[[], Profile],
        bootstraps: Sequence[PeerId],
        neighbours: Callable[[], Collection[PeerId]],
    ) -> None:
        """Join, and stay: for ever. `profile` is asked every second, so that a new address is told at once."""
        try:
            async with trio.open_nursery() as self._nursery:
                now = self._clock.now()
                self._perform(self.directory.announce(profile(), now))
                self._requests.serve("find", find_decoder, self._answer)
                self._requests.serve("keep", keep_decoder, self._answer)
                self._suggest(bootstraps, neighbours())
                self._perform(self.directory.join(now))
                while True:
                    self._tick(profile(), bootstraps, neighbours())
                    await self._let_go(neighbours())
                    await trio.sleep(TICK_S)
        finally:
            self._nursery = None  # Peers are answered for a moment longer, and nothing more comes of it.

    async def find(self, peer: PeerId) -> Contact | None:
        """The newest record of a peer, its addresses learned; None when the directory has none."""
        done = await self._search(key_of(peer))
        found = [contact for contact in (*done.kept, *done.closest) if contact.peer == peer]
        return max(found, key=lambda contact: contact.record.sequence, default=None)

    async def find_topic(self, topic: str) -> list[Contact]:
        """A sample of the peers that want to be found under a topic (`members`, `relay/1`); ourselves left out."""
        done = await self._search(topic_key(self._network, topic))
        return [contact for contact in done.kept if contact.peer != self._me]

    async def explore(self) -> list[Contact]:
        """Peers somewhere in the network, drawn by a random key: neighbours that no neighbour of ours chose."""
        return list((await self._search(Digest(self._dialer.dice.randbytes(32)))).closest)

    def statistics(self) -> dict[str, int]:
        """How things stand."""
        directory = self.directory
        return {
            "directory_peers": len(directory.table),
            "directory_held": len(directory.held),
            "splits": self.check.splits,
        }

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _answer(self, sender: PeerId, question: Question) -> Found | Kept:
        reply, effects = self.directory.answer(sender, question, self._clock.now())
        self._perform(effects)
        return reply

    async def _search(self, key: Digest) -> Done:
        number, effects = self.directory.look_up(key, self._clock.now())
        sending, receiving = trio.open_memory_channel[Done](1)
        self._waiting[number] = sending
        try:
            self._perform(effects)
            with trio.move_on_after(SEARCH_S):
                return await receiving.receive()
        finally:
            del self._waiting[number]
        raise Unavailable(f"a search in the directory took longer than {SEARCH_S:g} s", code="no_answer")

    def _tick(self, profile: Profile, bootstraps: Sequence[PeerId], neighbours: Collection[PeerId]) -> None:
        now = self._clock.now()
        try:
            self._perform(self.directory.announce(profile, now))
        except Refused as error:
            log.warning("the own record stays as it is: %s", error.detail)
        if len(self.directory.table) < CLOSEST:
            self._suggest(bootstraps, neighbours)
        self._perform(self.directory.tick(now))
        if self._checks and trio.current_time() >= self._check_at:
            self._check_at = trio.current_time() + CHECK_S
            self._start(self._ask, self._checks.popleft())
        self._greet(neighbours)
        known = [peer for peer in self._dialer.book.all() if not self._dialer.book.is_forbidden(peer)]
        for probe in self.check.tick(neighbours, bootstraps, known, now):
            self._start(self._probe, probe.witness, neighbours)

    def _suggest(self, bootstraps: Sequence[PeerId], neighbours: Collection[PeerId]) -> None:
        """Where to begin: those who are connected, the bootstraps, and a few of the others, newest first."""
        remembered = list(self._dialer.book.all())[::-1]
        self.directory.suggest([*neighbours, *bootstraps, *remembered])

    def _greet(self, neighbours: Collection[PeerId]) -> None:
        now = trio.current_time()
        self._greeted = {peer: at for peer, at in self._greeted.items() if at > now - GREET_AGAIN_S}
        for peer in neighbours:
            if peer not in self._greeted:
                self._greeted[peer] = now
                self._perform(self.directory.greet(peer))

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Ask(is_check=True) if not self._dialer.is_connected(effect.peer):
                    self._checks.append(effect)
                case Ask():
                    self._start(self._ask, effect)
                case Met(contact=contact):
                    self._dialer.book.learn(contact.peer, contact.addresses)
                case Done(number=number):
                    if number in self._waiting:
                        self._waiting[number].send_nowait(effect)
                case Twin(contact=contact):
                    self._counts["twins"] += 1
                    self.twin_seen(", ".join(contact.addresses) or "no address")
                case Fault(violation=violation):
                    self._start(self._punish, violation)

    def _start(self, task: Callable[..., Awaitable[None]], *arguments: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(task, *arguments)

    async def _ask(self, ask: Ask) -> None:
        """Put one question; whatever goes wrong is the lack of an answer."""
        if ask.addresses:
            self._dialer.book.learn(ask.peer, ask.addresses)
        reply: Found | Kept | None = None
        try:
            async with self._slots:
                reply = await self._put(ask.peer, ask.question)
        except RemoteViolation as violation:
            await self._punish(violation)
        except (Refused, Unavailable) as error:
            log.debug("question to %s: %s", peer_text(ask.peer), error.detail)
        now = self._clock.now()
        if reply is None:
            self._perform(self.directory.failed(ask.number, now))
        else:
            self._perform(self.directory.receive(ask.number, reply, now))

    async def _put(self, peer: PeerId, question: Question) -> Found | Kept:
        if not self._dialer.is_connected(peer):
            self._passing[peer] = trio.current_time()
        if isinstance(question, Keep):
            return await self._requests.ask(peer, "keep", question, kept_decoder, QUESTION_S)
        return await self._requests.ask(peer, "find", question, found_decoder, QUESTION_S)

    async def _probe(self, witness: PeerId, neighbours: Collection[PeerId]) -> None:
        """One cross-check: is the witness in the same network as we are?"""
        key = key_of(self._me)
        self._counts["cross_checks"] += 1
        try:
            reply = await self._put(witness, Find(key, self.directory.own.signed))
            now = self._clock.now()
            named, kept = self.directory.opened(witness, key, reply, now) if isinstance(reply, Found) else ([], [])
        except RemoteViolation as violation:
            self.check.failed(witness, self._clock.now())
            await self._punish(violation)
            return
        except (Refused, Unavailable) as error:
            log.debug("cross-check with %s: %s", peer_text(witness), error.detail)
            self.check.failed(witness, self._clock.now())
            return
        known = {entry.contact.peer for entry in self.directory.table} | set(neighbours) | {witness}
        for merge in self.check.answered(witness, named, kept, known, now):
            await self._merge(witness, merge)

    async def _merge(self, witness: PeerId, merge: Merge) -> None:
        log.warning("%s knows another half of this network: merging", peer_text(witness))
        self._perform(self.directory.merge(merge.strangers, self._clock.now()))
        for contact in merge.bridges:
            self._dialer.book.learn(contact.peer, contact.addresses)
            try:
                await self._dialer.connect(contact.peer)
            except Unavailable as error:
                log.info("bridge: %s", error.detail)

    async def _let_go(self, neighbours: Collection[PeerId]) -> None:
        """Close what was opened for a question only, once the network is large enough for that to matter."""
        now = trio.current_time()
        over = [peer for peer, at in self._passing.items() if at < now - PASSING_S]
        for peer in over:
            del self._passing[peer]
            if len(neighbours) > PASSING_MAX:
                await self._dialer.disconnect(peer)


def _say_twin(address: str) -> None:
    log.error("another node signs with this node's key, at %s: two nodes must never share an identity", address)
