"""Can others dial us? Random peers try and sign what they found; two of three decide. The asker's side, sans-IO.

Peers of different subnets are drawn by dice, so that a chosen friend cannot vouch alone and one owner of many peers has
one voice. Missing answers change nothing until the evidence is old. Spec: specs/21-reach.md.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from protocol.errors import RemoteViolation
from protocol.overlay.endpoint import SUBNET_BITS, canonical_ip, endpoint, subnet
from protocol.overlay.verdicts import ADDRESSES_MAX, FRESH, DialBack, DialledBack, Verdict, open_verdict
from protocol.units import MINUTE, SECOND, Micros, PeerId
from protocol.wire import Signed

WITNESSES: Final = 3
"""Peers asked in a round: the least number with a majority that one liar cannot turn."""

AGREE_MIN: Final = 2
"""Witnesses that must say the same of an address."""

ASKS_MAX: Final = 8
"""Questions of one round; peers that do not answer are replaced by others."""

ROUND_INTERVAL: Final = Micros(10 * MINUTE)
"""Microseconds between rounds: a router that forgets its table is noticed well before a lease ends."""

RETRY_INTERVAL: Final = Micros(MINUTE)
"""Microseconds until another round when the last one decided nothing."""

SETTLE: Final = Micros(2 * SECOND)
"""Microseconds from a change of address to the round about it: changes come in flocks."""

DOUBTS_MAX: Final = 3
"""A witness that stood against the majority so often is asked only when nobody else is left."""

DOUBTED_PEERS_MAX: Final = 256
"""Peers whose doubts are remembered."""

State = Literal["unknown", "public", "private"]


@dataclass(frozen=True, slots=True)
class Witness:
    """A peer that could be asked: connected directly, at this IP address."""

    peer: PeerId
    ip: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Effect: put the question to a peer; answer with `answered` or `failed`."""

    peer: PeerId
    question: DialBack


@dataclass(frozen=True, slots=True)
class Settled:
    """Effect: a round ended. `before` and `after` are equal when nothing changed."""

    before: State
    after: State
    addresses: tuple[str, ...]
    """Proven public now."""


@dataclass(frozen=True, slots=True)
class Contradicted:
    """Effect: a witness said of an address what the majority denies. It lies, or it sits behind a wall of its own."""

    peer: PeerId
    address: str
    outcome: str


ReachEffect = Ask | Settled | Contradicted


@dataclass(frozen=True, slots=True)
class Word:
    """One verdict that was heard, with the signed original for others to check."""

    witness: PeerId
    verdict: Verdict
    statement: Signed


@dataclass(slots=True)
class _Round:
    question: DialBack
    reserve: list[Witness]
    waiting: set[PeerId] = field(default_factory=set)
    asks: int = 0
    answers: int = 0
    words: list[Word] = field(default_factory=list)
    elsewhere: Counter[str] = field(default_factory=Counter)


class Reachability:
    """Rounds of questions, and what they proved."""

    def __init__(self, me: PeerId, network: str, dice: random.Random, subnet_bits: int = SUBNET_BITS) -> None:
        self._me = me
        self._network = network
        self._dice = dice
        self._bits = subnet_bits
        self._round: _Round | None = None
        self._doubts: Counter[PeerId] = Counter()
        self.state: State = "unknown"
        self.public: tuple[str, ...] = ()
        """Addresses that the last deciding round proved."""
        self.words: tuple[Word, ...] = ()
        """Evidence of the last round that decided, for doctor and for others."""
        self.asked = 0
        """Witnesses that answered in that round."""
        self.twins: tuple[str, ...] = ()
        """Addresses from which somebody else is connected with our key, as several witnesses say."""
        self.due = Micros(0)
        """When the next round should begin."""
        self._decided = Micros(0)

    @property
    def is_asking(self) -> bool:
        """Whether a round runs."""
        return self._round is not None

    @property
    def doubts(self) -> dict[PeerId, int]:
        """Witnesses that stood against a majority, and how often."""
        return dict(self._doubts)

    def address_changed(self, now: Micros) -> None:
        """Ask again soon: what was proven was proven of another address."""
        self.due = min(self.due, Micros(now + SETTLE))

    def begin(
        self, nonce: bytes, addresses: Sequence[str], witnesses: Sequence[Witness], now: Micros
    ) -> list[ReachEffect]:
        """Start a round about `addresses`; a round that still runs ends without a result."""
        self._round = None
        question = DialBack(nonce, tuple(dict.fromkeys(addresses))[:ADDRESSES_MAX])
        drawn = self._draw(witnesses)
        if not question.addresses or not drawn:
            return self._end(_Round(question, []), now)
        self._round = _Round(question, drawn)
        return self._ask_more(self._round, now)

    def answered(self, peer: PeerId, reply: DialledBack, now: Micros) -> list[ReachEffect]:
        """A witness's words. RemoteViolation when they are not its own, not about us, or no answer to this: punish
        it and call `failed`."""
        ongoing = self._round
        if ongoing is None or peer not in ongoing.waiting:
            return []
        words = [self._checked(peer, statement, ongoing.question) for statement in reply.verdicts]
        ongoing.waiting.discard(peer)
        if words:
            ongoing.answers += 1
            ongoing.words += words
        seen = endpoint(reply.seen)
        others = {ip for text in reply.elsewhere if (ip := _ip_of(text)) is not None}
        ongoing.elsewhere.update(ip for ip in others if seen is not None and (":" in ip) == (":" in seen.ip))
        return self._ask_more(ongoing, now)

    def failed(self, peer: PeerId, now: Micros) -> list[ReachEffect]:
        """A witness did not answer, or declined."""
        if self._round is None:
            return []
        self._round.waiting.discard(peer)
        return self._ask_more(self._round, now)

    # ── a round ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _draw(self, witnesses: Sequence[Witness]) -> list[Witness]:
        """All of them in random order, one of each subnet, those in doubt last."""
        pool = [witness for witness in witnesses if witness.peer != self._me]
        self._dice.shuffle(pool)
        pool.sort(key=lambda witness: self._doubts[witness.peer] >= DOUBTS_MAX)
        by_subnet: dict[str, Witness] = {}
        for witness in pool:
            ip = canonical_ip(witness.ip)
            if ip is not None:
                by_subnet.setdefault(subnet(ip, self._bits), witness)
        return list(by_subnet.values())

    def _ask_more(self, ongoing: _Round, now: Micros) -> list[ReachEffect]:
        effects: list[ReachEffect] = []
        while ongoing.answers + len(ongoing.waiting) < WITNESSES and ongoing.reserve and ongoing.asks < ASKS_MAX:
            witness = ongoing.reserve.pop(0)
            ongoing.asks += 1
            ongoing.waiting.add(witness.peer)
            effects.append(Ask(witness.peer, ongoing.question))
        return effects if ongoing.waiting else self._end(ongoing, now)

    def _checked(self, peer: PeerId, statement: Signed, question: DialBack) -> Word:
        verdict = open_verdict(statement, self._network, peer)
        is_answer = verdict.nonce == question.nonce and verdict.address in question.addresses
        if statement.signer != peer or verdict.subject != self._me or not is_answer:
            raise RemoteViolation(peer, "a verdict that answers another question", code="foreign_verdict")
        return Word(peer, verdict, statement)

    def _end(self, ongoing: _Round, now: Micros) -> list[ReachEffect]:
        self._round = None
        before = self.state
        effects = self._judge(ongoing, now)
        self.twins = tuple(ip for ip, count in ongoing.elsewhere.items() if count >= AGREE_MIN)
        is_decided = self._decided == now and self.state != "unknown"
        self.due = Micros(now + (ROUND_INTERVAL if is_decided else RETRY_INTERVAL))
        return [*effects, Settled(before, self.state, self.public)]

    def _judge(self, ongoing: _Round, now: Micros) -> list[ReachEffect]:
        """Two voices decide an address; none decided leaves things as they are until the evidence is old."""
        effects: list[ReachEffect] = []
        public: list[str] = []
        refuted = hopes = 0
        for address in ongoing.question.addresses:
            words = {word.witness: word.verdict for word in ongoing.words if word.verdict.address == address}
            yes = sum(verdict.is_reachable for verdict in words.values())
            no = len(words) - yes
            if max(yes, no) < AGREE_MIN or yes == no:
                hopes += bool(yes)
                continue
            public += [address] if yes > no else []
            refuted += no > yes
            for peer, verdict in words.items():
                if verdict.is_reachable != (yes > no):
                    self._doubt(peer)
                    effects.append(Contradicted(peer, address, verdict.outcome))
        if public or (refuted and not hopes):
            self.state = "public" if public else "private"
            self.public, self.words = tuple(public), tuple(ongoing.words)
            self.asked, self._decided = ongoing.answers, now
        elif self._decided + FRESH <= now:
            self.state, self.public = "unknown", ()
            self.words, self.asked = tuple(ongoing.words), ongoing.answers
        return effects

    def _doubt(self, peer: PeerId) -> None:
        self._doubts[peer] += 1
        while len(self._doubts) > DOUBTED_PEERS_MAX:
            del self._doubts[min(self._doubts, key=lambda known: self._doubts[known])]


def _ip_of(text: str) -> str | None:
    found = endpoint(text)
    return found.ip if found is not None else canonical_ip(text)
