"""What an owner has learnt of holders: do they have what they promised, do they answer, and how fast do they serve.

Two beta reputations after Storj: one for truth, which decays slowly and bars a liar, one for answering, which decays
fast and forgives fast. A holder that proves everything and serves at 1 KB/s is of no use: speed is judged besides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from protocol.units import HOUR, MINUTE, PPM, SECOND, Micros, PeerId
from storage.durability import gone_at_most
from storage.placement import UPLINK_MIN

TRUTH_MEMORY: Final = 0.98
"""What an old observation still counts after a new one. Storj's 0.999 is for thousands of audits a day; ours are six an
hour."""

TRUTH_START: Final = 20.0
"""Good observations that a stranger is credited with: one mistake bars nobody."""

BARRED_BELOW: Final = 0.85
"""Share of true answers below which nothing is given to a holder any more: four lies in a row from a clean record."""

ANSWER_MEMORY: Final = 0.95
"""The same for answering at all (Storj's figure for unknown errors)."""

ANSWER_START: Final = 5.0
"""Answers that a stranger is credited with."""

ABSENT_BELOW: Final = 0.6
"""Share of answers below which a holder is not chosen (Storj's figure)."""

STRIKES_MAX: Final = 3
"""Unanswered challenges about one thing before the silence counts (Storj's containment)."""

GONE_AFTER: Final = Micros(15 * MINUTE)
"""Microseconds without a sign of life after which a holder is counted gone: shorter, and an outage of an hour causes a
storm of repairs (Sia #4114)."""

NEWCOMER_SEEN: Final = 20.0
"""Good observations below which a holder is a newcomer."""

SPEED_BYTES_MIN: Final = 262_144
"""Bytes from which a transfer tells how fast a holder serves; of a smaller one the round trips are most of it."""

SPEED_GRACE: Final = Micros(2 * SECOND)
"""Microseconds that a smaller one may take; longer, and it tells after all."""

SMOOTHING: Final = 4
"""A new measurement of speed counts for one part in so many."""

KEEPS_NOTHING: Final = "keeps_nothing"
"""Code of a refusal (`NotKept`) by whose owner keeps nothing for others at all."""

EMPTY_FOR: Final = Micros(HOUR)
"""Microseconds for which such a peer is no holder: its owner would have to set a quota and start it again."""

PEERS_MAX: Final = 4_096
"""Holders remembered; the one that was seen least recently is forgotten first."""


@dataclass(slots=True)
class Standing:
    """One holder."""

    truths: float = TRUTH_START
    lies: float = 0.0
    answers: float = ANSWER_START
    silences: float = 0.0
    seen: float = 0.0
    """Observations of any kind."""
    failures: float = 0.0
    """Of these, how often it was gone when it was needed."""
    strikes: int = 0
    uplink: int | None = None
    """Bytes per second at which it serves."""
    response: Micros | None = None
    """Microseconds that a proof takes."""
    last: Micros | None = None
    """Its last sign of life."""
    empty_until: Micros = Micros(0)
    """Until then it is not asked again, having said that it keeps nothing; 0: it has not."""

    @property
    def truth(self) -> float:
        """Share of true answers, 0 to 1."""
        return self.truths / (self.truths + self.lies)

    @property
    def presence(self) -> float:
        """Share of answers at all, 0 to 1."""
        return self.answers / (self.answers + self.silences)

    @property
    def is_barred(self) -> bool:
        """It has lied too often."""
        return self.truth < BARRED_BELOW

    @property
    def is_slow(self) -> bool:
        """It was measured, and what it holds could not be had in time."""
        return self.uplink is not None and self.uplink < UPLINK_MIN

    @property
    def is_usable(self) -> bool:
        """Whether new shards may go there."""
        return not self.is_barred and not self.is_slow and not self.empty_until and self.presence >= ABSENT_BELOW


class Standings:
    """All holders, as this peer alone saw them. Nobody else's word counts."""

    def __init__(self) -> None:
        self._known: dict[PeerId, Standing] = {}

    def of(self, peer: PeerId) -> Standing:
        """What is known; a stranger has a clean record."""
        return self._known.get(peer) or Standing()

    def present(self, peer: PeerId, now: Micros) -> None:
        """A sign of life: a live offer, any message."""
        one = self._at(peer)
        one.last = now
        if now >= one.empty_until:
            one.empty_until = Micros(0)

    def refused(self, peer: PeerId, code: str, now: Micros) -> None:
        """It would not take a shard. Only who never takes any is no holder: others may have room for the next."""
        if code == KEEPS_NOTHING:
            one = self._at(peer)
            one.last, one.empty_until = now, Micros(now + EMPTY_FOR)

    def proved(self, peer: PeerId, took: Micros, now: Micros) -> None:
        """It had what it promised."""
        one = self._answered(peer, now)
        one.truths, one.lies = TRUTH_MEMORY * one.truths + 1.0, TRUTH_MEMORY * one.lies
        one.response = Micros(_smooth(one.response, took))

    def lied(self, peer: PeerId, now: Micros) -> None:
        """It did not have what it promised, or served something else."""
        one = self._answered(peer, now)
        one.truths, one.lies = TRUTH_MEMORY * one.truths, TRUTH_MEMORY * one.lies + 1.0
        one.failures += 1.0

    def kept(self, peer: PeerId, now: Micros) -> None:
        """It took a shard and signed for it."""
        self._answered(peer, now)

    def silent(self, peer: PeerId) -> bool:
        """It did not answer. True when that was once too often and counts."""
        one = self._at(peer)
        one.strikes += 1
        if one.strikes < STRIKES_MAX:
            return False
        one.strikes = 0
        one.answers, one.silences = ANSWER_MEMORY * one.answers, ANSWER_MEMORY * one.silences + 1.0
        one.seen += 1.0
        one.failures += 1.0
        return True

    def served(self, peer: PeerId, size: int, took: Micros) -> None:
        """It sent `size` bytes in `took` microseconds."""
        if size < SPEED_BYTES_MIN and took < SPEED_GRACE:
            return
        one = self._at(peer)
        one.uplink = _smooth(one.uplink, size * SECOND // max(1, took))

    def is_gone(self, peer: PeerId, now: Micros) -> bool:
        """Nothing was heard of it for long. Who was never heard is not gone: nobody has listened yet."""
        last = self.of(peer).last
        return last is not None and now - last >= GONE_AFTER

    def is_newcomer(self, peer: PeerId) -> bool:
        """Too little is known of it."""
        one = self.of(peer)
        return one.seen - one.failures < NEWCOMER_SEEN

    def gone_at_most(self, peers: Iterable[PeerId]) -> float:
        """Upper bound of the chance that one of these is gone when it is needed, from all that was seen of them."""
        known = [self.of(peer) for peer in peers]
        return gone_at_most(sum(one.failures for one in known), sum(one.seen for one in known))

    def uptime_ppm(self, peer: PeerId) -> int:
        """Share of answers, parts per million."""
        return round(self.of(peer).presence * PPM)

    def _answered(self, peer: PeerId, now: Micros) -> Standing:
        one = self._at(peer)
        one.strikes, one.last = 0, now
        one.seen += 1.0
        one.answers, one.silences = ANSWER_MEMORY * one.answers + 1.0, ANSWER_MEMORY * one.silences
        return one

    def _at(self, peer: PeerId) -> Standing:
        one = self._known.pop(peer, None) or Standing()
        self._known[peer] = one
        while len(self._known) > PEERS_MAX:
            del self._known[next(iter(self._known))]
        return one


def _smooth(known: int | None, measured: int) -> int:
    return measured if known is None else known + (measured - known) // SMOOTHING
