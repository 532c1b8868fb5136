"""Pull on gap: a peer that comes anew, or was away, asks neighbours for the statements that it missed.

Gossip repeats itself every ten seconds at best and forgets after five; this machine keeps the newest statement of
every signer as it was signed. Two peers compare 64 numbers, list the buckets that differ, and the one that asked takes
what is newer there:

    asker  ── Summary ──▶  other     a number per bucket of signers
    asker  ◀── Listing ──  other     (key, sequence) of the buckets that differ; nothing when none does
    asker  ── Wanted ───▶  other     the keys that are new to it
    asker  ◀── Told ─────  other     signed statements, several messages of at most 64 KiB

An exchange follows a new neighbour, a pause in what several signers say, and every half minute one neighbour drawn by
lot. What comes is checked like gossip, and handed to the machines by the driver (`Hear`). Spec: specs/22-gossip.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from blake3 import blake3

from protocol import wire
from protocol.completions import Completion, Neighbour, Overheard
from protocol.effects import Effect, Hear, Send, Wake
from protocol.errors import LocalError, RemoteViolation
from protocol.exchange import Listing, Summary, Told, Wanted
from protocol.messages import STATEMENT_KINDS, Head, JobNotice, Message, Offer, message_decoder
from protocol.units import MINUTE, SECOND, Micros, PeerId

INTERVAL: Final = Micros(30 * SECOND)
"""Between two exchanges without a reason, and half to one and a half of it in truth."""

GAP: Final = Micros(25 * SECOND)
"""A signer's sequence that jumps by more: two publications of its offer did not come."""

GAPS_MIN: Final = 3
"""Signers with such a jump since the last exchange: then it was we who were away, not they."""

EXCHANGE_GAP: Final = Micros(5 * SECOND)
"""Between two exchanges that we begin, and between two Summaries of one peer that we answer."""

HELD_MAX: Final = 8_192
"""Statements held: the 4096 offers of a full book and as many notices, 1 to 2 kB each. Beyond, whoever signed most of
them loses its oldest; while nobody signed more than one, none is added."""

LISTED_MAX: Final = 2_048
"""Entries of one Listing and keys of one Wanted: 32 KiB. A larger market takes several exchanges."""

TOLD_BYTES_MAX: Final = 60 << 10
"""Of statements in one message; the frame has 64 KiB."""

PARTNERS_MAX: Final = 256
"""Peers with which an exchange is remembered."""

LIFE: Final = MINUTE
"""How long a statement that has expired is held, so that an older one is not taken for news."""

BUCKETS: Final = 64
KEY_BYTES: Final = 8
HEAD_KEY: Final = b"\0heads\0\0"
"""There is one newest head, whoever signs it."""

_EPOCH_BITS: Final = 24
"""Sequences of offers and notices are times in µs; what differs by less than 17 s is left to gossip."""

_ENTRY_BYTES: Final = 16
_WORD: Final = (1 << 64) - 1

Statement = Offer | JobNotice | Head


@dataclass(frozen=True, slots=True)
class Held:
    """The newest statement under one key."""

    sequence: int
    epoch: int
    statement: wire.Signed
    until: Micros


@dataclass(slots=True)
class Partner:
    """An exchange with one peer."""

    answered: Micros | None = None
    """When its Summary was answered last."""
    listed: int = 0
    """Keys that it may still ask for."""
    asked: Micros | None = None
    """When we sent a Summary that no Listing has answered."""
    wanted: set[bytes] = field(default_factory=set)
    """Keys that we asked for."""


class Catchup:
    """Holds statements, compares and pulls. The partner is any neighbour; for words their signer answers."""

    accepts: tuple[type, ...] = (Overheard, Neighbour, Summary, Listing, Wanted, Told)

    def __init__(
        self, me: PeerId, network: str, neighbours: Callable[[], Sequence[PeerId]], random: Random, life: Micros
    ) -> None:
        """`life`: µs that an offer of anybody may last."""
        self._me = me
        self._network = network
        self._neighbours = neighbours
        self._random = random
        self._life = life
        self._held: dict[bytes, Held] = {}
        self._partners: dict[PeerId, Partner] = {}
        self._next = Micros(0)
        """The next exchange without a reason."""
        self._begun: Micros | None = None
        """The last exchange that we began."""
        self._gaps = 0
        self._heard_at: Micros | None = None
        """When somebody else was heard last."""

    def __len__(self) -> int:
        return len(self._held)

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        """A statement that was heard, a neighbour, or a part of an exchange."""
        match message:
            case Overheard(statement, body):
                return self._overheard(statement, body, now)
            case Neighbour(peer):
                return self._begin(peer, now)
            case Summary():
                return self._compare(sender, message, now)
            case Listing():
                return self._choose(sender, message)
            case Wanted():
                return self._tell(sender, message)
            case Told():
                return self._told(sender, message, now)
        raise LocalError(f"{type(message).__name__} was routed to catch-up", code="not_accepted")

    def tick(self, now: Micros) -> list[Effect]:
        """Forget what is old, and compare with somebody when it is time."""
        if now < self._next:
            return [Wake(self._next)]
        for key in [key for key, held in self._held.items() if held.until <= now]:
            del self._held[key]
        around = self._neighbours()
        self._next = Micros(now + int(INTERVAL * (0.5 + self._random.random())) if around else now + SECOND)
        chosen = [around[self._random.randrange(len(around))]] if around else []
        return [effect for peer in chosen for effect in self._begin(peer, now)] + [Wake(self._next)]

    # ── what we know ─────────────────────────────────────────────────────────────────────────────────────────────────
    def _overheard(self, statement: wire.Signed, body: Statement, now: Micros) -> list[Effect]:
        """Hold it. After a pause of several signers, somebody is asked soon what else we missed."""
        key = key_of(statement, body)
        known = self._held.get(key)
        held = self._entry(statement, body, now)
        if known is not None and not isinstance(body, Head) and held.sequence - known.sequence > GAP:
            self._gaps += 1
        if statement.signer != self._me:
            if self._heard_at is not None and now - self._heard_at > GAP:
                self._gaps = GAPS_MIN  # Nobody at all was heard for so long.
            self._heard_at = now
        self._hold(key, held, now)
        if self._gaps >= GAPS_MIN and self._next > now + SECOND:
            self._gaps = 0
            self._next = Micros(now + SECOND)
            return [Wake(self._next)]
        return []

    def _hold(self, key: bytes, held: Held, now: Micros) -> bool:
        """False when it is not newer than what is held, or there is no room."""
        known = self._held.get(key)
        if held.until <= now or (known is not None and held.sequence <= known.sequence):
            return False
        if known is None and len(self._held) >= HELD_MAX and not self._make_room():
            return False
        self._held[key] = held
        return True

    def _make_room(self) -> bool:
        """Forget the oldest statement of whoever has signed most; False where nobody has signed two."""
        signer, count = Counter(held.statement.signer for held in self._held.values()).most_common(1)[0]
        if count > 1:
            del self._held[next(key for key, held in self._held.items() if held.statement.signer == signer)]
        return count > 1

    def _entry(self, statement: wire.Signed, body: Statement, now: Micros) -> Held:
        if isinstance(body, Head):
            height = body.header.height
            return Held(height, height, statement, Micros(1 << 62))
        until = max(body.expires, body.issued + LIFE)
        return Held(
            body.sequence, body.sequence >> _EPOCH_BITS, statement, Micros(min(until, now + 2 * max(self._life, LIFE)))
        )

    def _summary(self) -> list[int]:
        """A number per bucket: equal when two peers hold the same keys in the same epochs, and else very likely not."""
        numbers = [0] * BUCKETS
        for key, held in self._held.items():
            word = int.from_bytes(key, "big") ^ (held.epoch * 0x9E3779B97F4A7C15 & _WORD)
            word = (word ^ word >> 32) * 0xD6E8FEB86659FD93 & _WORD
            numbers[key[0] % BUCKETS] ^= word ^ word >> 32
        return numbers

    # ── an exchange ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _begin(self, peer: PeerId, now: Micros) -> list[Effect]:
        """Say what we have, unless we did so just now."""
        if self._begun is not None and now - self._begun < EXCHANGE_GAP:
            return []
        self._begun, self._gaps = now, 0
        self._partner(peer).asked = now
        return [Send(peer, Summary(b"".join(number.to_bytes(8, "big") for number in self._summary())))]

    def _compare(self, sender: PeerId, message: Summary, now: Micros) -> list[Effect]:
        """Somebody says what it has: list ours where it differs."""
        if len(message.buckets) != 8 * BUCKETS:
            raise RemoteViolation(sender, f"a summary of {len(message.buckets)} bytes", code="bad_summary")
        partner = self._partner(sender)
        if partner.answered is not None and now - partner.answered < EXCHANGE_GAP:
            return []
        partner.answered = now
        ours = self._summary()
        differing = {n for n in range(BUCKETS) if ours[n] != int.from_bytes(message.buckets[8 * n : 8 * n + 8], "big")}
        entries = [(key, held.sequence) for key, held in self._held.items() if key[0] % BUCKETS in differing]
        if not entries:
            return []
        if len(entries) > LISTED_MAX:
            entries = self._random.sample(entries, LISTED_MAX)
        partner.listed = len(entries)
        return [Send(sender, Listing(b"".join(key + sequence.to_bytes(8, "big") for key, sequence in entries)))]

    def _choose(self, sender: PeerId, message: Listing) -> list[Effect]:
        """Somebody lists what it has: ask for what is newer than ours."""
        if len(message.entries) % _ENTRY_BYTES:
            raise RemoteViolation(sender, f"a listing of {len(message.entries)} bytes", code="bad_listing")
        partner = self._partners.get(sender)
        if partner is None or partner.asked is None:
            return []  # Late, or unasked: an earlier run of ours may have asked.
        partner.asked = None
        wanted = [key for key, sequence in _entries(message.entries) if self._is_news(key, sequence)]
        partner.wanted = set(wanted)
        return [Send(sender, Wanted(b"".join(wanted)))] if wanted else []

    def _is_news(self, key: bytes, sequence: int) -> bool:
        known = self._held.get(key)
        if known is None:
            return True
        if key == HEAD_KEY:
            return sequence > known.sequence
        return sequence >> _EPOCH_BITS > known.epoch

    def _tell(self, sender: PeerId, message: Wanted) -> list[Effect]:
        """Somebody asks for statements that we listed."""
        if len(message.keys) % KEY_BYTES:
            raise RemoteViolation(sender, f"{len(message.keys)} bytes of keys", code="bad_keys")
        partner = self._partners.get(sender)
        allowed = 0 if partner is None else partner.listed
        if partner is not None:
            partner.listed = 0
        keys = [message.keys[at : at + KEY_BYTES] for at in range(0, len(message.keys), KEY_BYTES)]
        found = [self._held[key].statement for key in dict.fromkeys(keys[:allowed]) if key in self._held]
        return [Send(sender, Told(batch)) for batch in _batches(found)]

    def _told(self, sender: PeerId, message: Told, now: Micros) -> list[Effect]:
        """Statements that we asked for: each is checked as if it had come by gossip."""
        partner = self._partners.get(sender)
        if partner is None or not partner.wanted:
            return []
        effects: list[Effect] = []
        for statement in message.statements:
            body = wire.decode(statement.body, message_decoder, sender)
            if not isinstance(body, Offer | JobNotice | Head):
                raise RemoteViolation(sender, f"a {type(body).__name__} is no statement", code="bad_kind")
            key = key_of(statement, body)
            if key not in partner.wanted:
                continue
            wire.open_signed(statement, self._network, STATEMENT_KINDS[type(body)], message_decoder, sender)
            partner.wanted.discard(key)
            if self._hold(key, self._entry(statement, body, now), now):
                effects.append(Hear(statement, body))
        return effects

    def _partner(self, peer: PeerId) -> Partner:
        """What is remembered of exchanges with a peer; the longest unused is forgotten for a new one."""
        partner = self._partners.pop(peer, None) or Partner()
        self._partners[peer] = partner
        if len(self._partners) > PARTNERS_MAX:
            del self._partners[next(iter(self._partners))]
        return partner


def key_of(statement: wire.Signed, body: Statement) -> bytes:
    """Under what the newest statement is held: its signer, for a notice its signer and job.

    Offers have the first bytes of their signer's key, which nobody can choose to be another's."""
    if isinstance(body, Offer):
        return statement.signer[:KEY_BYTES]
    if isinstance(body, Head):
        return HEAD_KEY
    return blake3(statement.signer + body.job).digest(length=KEY_BYTES)


def _entries(packed: bytes) -> Iterator[tuple[bytes, int]]:
    for at in range(0, len(packed), _ENTRY_BYTES):
        yield packed[at : at + KEY_BYTES], int.from_bytes(packed[at + KEY_BYTES : at + _ENTRY_BYTES], "big")


def _batches(statements: Sequence[wire.Signed]) -> Iterator[tuple[wire.Signed, ...]]:
    """As many as fit a message, and again."""
    batch: list[wire.Signed] = []
    size = 0
    for statement in statements:
        more = len(statement.body) + 160
        if batch and (size + more > TOLD_BYTES_MAX or len(batch) >= 64):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(statement)
        size += more
    if batch:
        yield tuple(batch)
