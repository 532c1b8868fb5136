"""The directory: a distributed table of signed peer records that needs no bootstrap once it runs.

Sans-IO. Questions of others come in through `answer`, replies to our own through `receive` and `failed`, time through
`tick`; what to ask comes out as effects. Nobody is believed: every record is signed by whom it is about, so the worst
that a liar can do is to say nothing, or to name real peers that are of no use. Spec: specs/23-discovery.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, Literal

from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.identity import Identity
from protocol.overlay.allowance import Allowances
from protocol.overlay.directory_effects import Ask, Done, Effect, Fault, Met, Twin
from protocol.overlay.held_records import HeldRecords
from protocol.overlay.lookup import CLOSEST, PATHS, Lookup
from protocol.overlay.own_record import OwnRecord, Profile
from protocol.overlay.peer_record import Contact, key_of, open_record
from protocol.overlay.questions import KEPT_MAX, NAMED_MAX, Find, Found, Keep, Kept, Question, Reply
from protocol.overlay.routing_table import RoutingTable
from protocol.units import MINUTE, SECOND, Digest, Micros, PeerId
from protocol.wire import Signed

ASK_BURST: Final = 64
"""Questions of one peer at once: a newcomer's searches all begin with the same few peers."""

ASK_PER_SECOND: Final = 8
"""Questions of one peer per second in the long run."""

LOOKUPS_MAX: Final = 16
"""Searches under way; one more is refused."""

JOIN_SOON: Final = Micros(1 * SECOND)
"""Microseconds to the next attempt to join while fewer than `CLOSEST` peers are known; each wait is twice the last."""

JOIN_AGAIN: Final = Micros(15 * SECOND)
"""The longest of these waits."""

PUBLISH_EVERY: Final = Micros(10 * MINUTE)
"""Microseconds between two deliveries of our record: who is near its keys changes as peers come and go."""

PUBLISH_SOON: Final = Micros(30 * SECOND)
"""The same while fewer than `CLOSEST` peers took it: a young network grows by the second."""

REFRESH: Final = Micros(10 * MINUTE)
"""Microseconds between searches for a random key: they find new peers everywhere, near and far."""

CHECK_AFTER: Final = Micros(10 * MINUTE)
"""Microseconds of silence after which a peer in the table is asked whether it is still there."""

CHECK_EVERY: Final = Micros(30 * SECOND)
"""Microseconds between two looks for such peers, and for records that are over."""

CHECKS: Final = 4
"""Peers asked at each such look."""

STRANGERS_MAX: Final = 32
"""Peers without a record that a search may begin with."""

Purpose = Literal["asked for", "publish", "refresh"]


@dataclass(slots=True)
class _Search:
    lookup: Lookup
    key: Digest
    purpose: Purpose
    kept: dict[PeerId, Contact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Pending:
    peer: PeerId
    search: int | None
    """None: a check, or a record that was brought."""
    key: Digest


class Directory:
    """One peer's share of the directory."""

    def __init__(self, identity: Identity, network: str, dice: Random) -> None:
        self._identity = identity
        self._network = network
        self._dice = dice
        self.table = RoutingTable(identity.peer)
        self.held = HeldRecords(identity.peer)
        self._allowances = Allowances(ASK_BURST, ASK_PER_SECOND)
        self._own = OwnRecord(identity, network)
        self._numbers = 0
        self._searches: dict[int, _Search] = {}
        self._pending: dict[int, _Pending] = {}
        self._strangers: tuple[PeerId, ...] = ()
        self._join_wait = JOIN_SOON
        self._join_at = self._publish_at = self._refresh_at = self._check_at = Micros(0)

    # ── what we say and want ─────────────────────────────────────────────────────────────────────────────────────────
    @property
    def own(self) -> Contact:
        """Our own record; LocalError before the first `announce`."""
        return self._own.contact

    def announce(self, profile: Profile, now: Micros) -> list[Effect]:
        """Say this from now on, and bring it where others look for it; to be called again and again.

        The same is no news, a coordinate that moved waits for the next signature, and whatever comes within
        `ANNOUNCE_GAP` of the last one waits for a later call: an address that flaps would keep everybody busy."""
        if self._own.is_signed and not self._own.is_news(profile, now):
            return []
        self._own.sign(profile, now)
        return self._publish(now)

    def suggest(self, peers: Sequence[PeerId]) -> None:
        """Peers whose addresses are known and nothing else: bootstraps, cached peers. `tick` begins with them while few
        others are known."""
        self._strangers = tuple(peer for peer in dict.fromkeys(peers) if peer != self._identity.peer)[:STRANGERS_MAX]

    def join(self, now: Micros) -> list[Effect]:
        """Begin: look for those near our keys, from whoever is known."""
        self._join_at = Micros(now + self._join_wait)
        self._join_wait = min(Micros(2 * self._join_wait), JOIN_AGAIN)
        return self._publish(now)

    def greet(self, peer: PeerId) -> list[Effect]:
        """Somebody is connected whom the table does not know: ask who is near us, which introduces us too."""
        if peer == self._identity.peer or self.table.get(peer) is not None:
            return []
        return [self._ask(peer, (), Find(key_of(self._identity.peer), self.own.signed))]

    def look_up(self, key: Digest, now: Micros) -> tuple[int, list[Effect]]:
        """Search for what is kept under a key and who is near it; a `Done` with this number follows."""
        if len(self._searches) >= LOOKUPS_MAX:
            raise Refused(f"{LOOKUPS_MAX} searches are under way", code="busy", fix="Try again in a few seconds.")
        return self._search(key, "asked for", now)

    def meet(self, signed: Signed, now: Micros, sender: PeerId) -> list[Effect]:
        """A record from elsewhere (a cache, another peer): verified, then asked whether it is there.

        RemoteViolation of the sender for a forged one, Refused for one that is over."""
        return self._met(open_record(signed, self._network, now, sender), now)

    def merge(self, contacts: Iterable[Contact], now: Micros) -> list[Effect]:
        """Peers of another half of the network: meet them all, and bring our record to whoever is near its keys now."""
        effects = [effect for contact in contacts for effect in self._met(contact, now)]
        return effects + self._publish(now)

    def opened(self, peer: PeerId, key: Digest, reply: Found, now: Micros) -> tuple[list[Contact], list[Contact]]:
        """(those named, those kept under the key) in an answer to a question that was put outside of any search.

        RemoteViolation when it breaks a rule, Refused when the answerer's own record is over."""
        itself, named, kept = self._verified(_Pending(peer, None, key), reply, now)
        self.table.put(itself, now, is_checked=True)
        return named, kept

    # ── what others ask ──────────────────────────────────────────────────────────────────────────────────────────────
    def answer(self, sender: PeerId, question: Question, now: Micros) -> tuple[Reply, list[Effect]]:
        """RemoteViolation when the question breaks a rule, Refused (`slow_down`) when there are too many."""
        if not self._allowances.take(sender, now):
            raise Refused("too many questions", code="slow_down", fix=f"At most {ASK_PER_SECOND} per second.")
        contact = open_record(question.me, self._network, now, sender)
        if contact.peer != sender:
            raise RemoteViolation(sender, "asked with the record of somebody else", code="not_yours")
        effects = self._met(contact, now)
        if isinstance(question, Keep):
            if not _belongs(contact, Digest(question.key)):
                raise RemoteViolation(sender, "a record under a key that is none of its own", code="off_topic")
            return Kept(self.held.put(Digest(question.key), contact)), effects
        target = int.from_bytes(question.key, "big")
        named = [one.signed for one in self.table.closest(target, NAMED_MAX + 1, is_checked=True) if one.peer != sender]
        kept = [one.signed for one in self._kept(Digest(question.key), now)]
        return Found(self.own.signed, tuple(named[:NAMED_MAX]), tuple(kept)), effects

    # ── what comes back ──────────────────────────────────────────────────────────────────────────────────────────────
    def receive(self, number: int, reply: Reply, now: Micros) -> list[Effect]:
        """The reply to an `Ask`. A reply that breaks a rule counts as none, and costs its sender its place."""
        pending = self._pending.get(number)
        if pending is None:
            raise LocalError(f"nothing was asked under {number}", code="no_such_question")
        if isinstance(reply, Kept):
            if pending.search is not None:
                return self.failed(number, now)
            del self._pending[number]
            return []
        try:
            itself, named, kept = self._verified(pending, reply, now)
        except RemoteViolation as violation:
            self.table.remove(pending.peer)
            return [Fault(violation), *self.failed(number, now)]
        except Refused:
            return self.failed(number, now)
        del self._pending[number]
        self.table.put(itself, now, is_checked=True)
        effects: list[Effect] = [Met(itself), *self._twins((itself, *named, *kept))]
        search = self._searches.get(pending.search) if pending.search is not None else None
        if search is None or pending.search is None:
            return effects + [effect for contact in named for effect in self._met(contact, now)]
        for contact in kept:
            known = search.kept.get(contact.peer)
            if known is None or known.record.sequence < contact.record.sequence:
                search.kept[contact.peer] = contact
        search.lookup.answered(pending.peer, itself, named)
        return effects + self._go_on(pending.search, now)

    def failed(self, number: int, now: Micros) -> list[Effect]:
        """There is no reply to an `Ask`."""
        pending = self._pending.pop(number, None)
        if pending is None:
            raise LocalError(f"nothing was asked under {number}", code="no_such_question")
        self.table.failed(pending.peer)
        search = self._searches.get(pending.search) if pending.search is not None else None
        if search is None or pending.search is None:
            return []
        search.lookup.failed(pending.peer)
        return self._go_on(pending.search, now)

    def tick(self, now: Micros) -> list[Effect]:
        """Renew, refresh, check, forget. To be called every second or so."""
        if not self._own.is_signed:
            return []
        effects: list[Effect] = []
        if self._own.is_due(now):
            self._own.sign(self._own.profile, now)
            self._publish_at = now
        if now >= self._publish_at:
            effects += self._publish(now)
        if len(self.table) < CLOSEST and now >= self._join_at:
            effects += self.join(now)
        if now >= self._refresh_at:
            self._refresh_at = Micros(now + REFRESH)
            if len(self.table) and len(self._searches) < LOOKUPS_MAX:
                effects += self._search(Digest(self._dice.randbytes(32)), "refresh", now)[1]
        if now >= self._check_at:
            self._check_at = Micros(now + CHECK_EVERY)
            self.held.expire(now)
            asked = {pending.peer for pending in self._pending.values()}
            for contact in self.table.oldest(Micros(now - CHECK_AFTER), CHECKS):
                if contact.peer not in asked:
                    effects.append(self._check(contact))
        return effects

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _publish(self, now: Micros) -> list[Effect]:
        """Look for the keepers of every key of ours, and bring them the record."""
        effects: list[Effect] = []
        self._publish_at = Micros(now + PUBLISH_EVERY)
        under_way = {search.key for search in self._searches.values() if search.purpose == "publish"}
        for key in (key_of(self._identity.peer), *map(Digest, self.own.record.topics)):
            if key not in under_way:
                effects += self._search(key, "publish", now)[1]
        return effects

    def _search(self, key: Digest, purpose: Purpose, now: Micros) -> tuple[int, list[Effect]]:
        target = int.from_bytes(key, "big")
        seeds = self.table.closest(target, CLOSEST * PATHS)
        known = {contact.peer for contact in seeds}
        unknown = [peer for peer in self._strangers if peer not in known] if len(seeds) < CLOSEST else []
        self._numbers += 1
        number = self._numbers
        self._searches[number] = _Search(Lookup(target, self._identity.peer, seeds, unknown), key, purpose)
        return number, self._go_on(number, now)

    def _go_on(self, number: int, now: Micros) -> list[Effect]:
        search = self._searches[number]
        find = Find(search.key, self.own.signed)
        effects: list[Effect] = [self._ask(one.peer, one.addresses, find, number) for one in search.lookup.next()]
        if not search.lookup.is_over:
            return effects
        del self._searches[number]
        closest = tuple(search.lookup.closest())
        if search.purpose == "publish":
            if len(closest) < CLOSEST:
                self._publish_at = min(self._publish_at, Micros(now + PUBLISH_SOON))
            keep = Keep(search.key, self.own.signed)
            return effects + [self._ask(contact.peer, contact.addresses, keep) for contact in closest]
        if search.purpose == "refresh":
            return effects
        here = {contact.peer: contact for contact in self._kept(search.key, now)}
        kept = tuple((here | search.kept).values())
        return [*effects, Done(number, kept, closest, search.lookup.asks, search.lookup.hops)]

    def _kept(self, key: Digest, now: Micros) -> list[Contact]:
        """What is kept here under a key; a peer in the table was met, so its record need not have been brought."""
        kept = self.held.sample(key, KEPT_MAX, now, self._dice)
        target = int.from_bytes(key, "big")
        met = [one for one in self.table.closest(target, 1) if one.position == target and one.record.expires > now]
        return kept or met

    def _ask(self, peer: PeerId, addresses: tuple[str, ...], question: Question, search: int | None = None) -> Ask:
        self._numbers += 1
        self._pending[self._numbers] = _Pending(peer, search, Digest(question.key))
        return Ask(self._numbers, peer, addresses, question)

    def _check(self, contact: Contact) -> Effect:
        """Whether a peer is there; its answer names our own neighbours, which is useful besides."""
        ask = self._ask(contact.peer, contact.addresses, Find(key_of(self._identity.peer), self.own.signed))
        return replace(ask, is_check=True)

    def _met(self, contact: Contact, now: Micros) -> list[Effect]:
        if contact.peer == self._identity.peer:
            return self._twins((contact,))
        is_new = self.table.get(contact.peer) is None
        is_in = self.table.put(contact, now, is_checked=False)
        return [Met(contact), self._check(contact)] if is_new and is_in and self._own.is_signed else [Met(contact)]

    def _twins(self, contacts: Iterable[Contact]) -> list[Effect]:
        return [Twin(contact) for contact in contacts if self._own.is_twin(contact)]

    def _verified(self, pending: _Pending, reply: Found, now: Micros) -> tuple[Contact, list[Contact], list[Contact]]:
        """(the answerer, those it names, those kept under the key)."""
        peer = pending.peer
        itself = open_record(reply.me, self._network, now, peer)
        if itself.peer != peer:
            raise RemoteViolation(peer, "answered with the record of somebody else", code="not_yours")
        named = self._live(reply.named, now, peer)
        kept = self._live(reply.kept, now, peer)
        if not all(_belongs(contact, pending.key) for contact in kept):
            raise RemoteViolation(peer, "a record under a key that is none of its own", code="off_topic")
        return itself, named, kept

    def _live(self, records: Sequence[Signed], now: Micros, sender: PeerId) -> list[Contact]:
        """The records that hold now; a copy that is over is nobody's fault."""
        alive: list[Contact] = []
        for signed in records:
            try:
                alive.append(open_record(signed, self._network, now, sender))
            except Refused:
                continue
        return alive


def _belongs(contact: Contact, key: Digest) -> bool:
    """Whether a record may be kept under a key."""
    return contact.position == int.from_bytes(key, "big") or key in contact.record.topics
