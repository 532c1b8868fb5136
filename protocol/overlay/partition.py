"""Is this the whole network, or half of it? A machine that asks a peer which is no neighbour, now and then.

Two halves that both live on look healthy from inside: every neighbour answers. So a peer that is known but not
connected is asked who is near us: if it does not know us, or names mostly strangers, both sides exchange samples and
merge. Spec: specs/23-discovery.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from protocol.overlay.peer_record import Contact
from protocol.units import MINUTE, SECOND, Micros, PeerId

CHECK_FIRST: Final = Micros(20 * SECOND)
"""Microseconds after the start until the first check: the directory has been joined by then."""

CHECK_INTERVAL: Final = Micros(3 * MINUTE)
"""Microseconds between checks while all is well."""

CHECK_SOON: Final = Micros(15 * SECOND)
"""Microseconds to the next check after one that found a split, or nobody: healing is worth a look."""

PROBE_TIMEOUT: Final = Micros(15 * SECOND)
"""Microseconds that a witness has to answer, dial included."""

WITNESSES_KEPT: Final = 8
"""Witnesses that are not asked again while there are others."""

BRIDGES: Final = 4
"""Strangers that are dialled when two halves merge: gossip needs more than one link."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask this peer who is near us, over a connection of its own; then `answered` or `failed`."""

    witness: PeerId


@dataclass(frozen=True, slots=True)
class Merge:
    """Another half lives: connect to these, introduce all of them to the directory, and publish our record again."""

    bridges: tuple[Contact, ...]
    strangers: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class Idle:
    """Until the next check."""

    until: Micros


@dataclass(frozen=True, slots=True)
class Waiting:
    """For a witness."""

    witness: PeerId
    until: Micros


class CrossCheck:
    """One peer's doubts. `tick` says whom to ask."""

    def __init__(self, me: PeerId, now: Micros, dice: Random) -> None:
        self._me = me
        self._dice = dice
        self._asked: deque[PeerId] = deque(maxlen=WITNESSES_KEPT)
        self.state: Idle | Waiting = Idle(Micros(now + CHECK_FIRST))
        self.splits = 0
        """How often another half was found."""

    def tick(
        self, neighbours: Collection[PeerId], bootstraps: Sequence[PeerId], known: Sequence[PeerId], now: Micros
    ) -> list[Probe]:
        """Choose a witness when it is time: a bootstrap that is no neighbour, else anybody known who is none."""
        if isinstance(self.state, Waiting) and now >= self.state.until:
            self.failed(self.state.witness, now)
        if isinstance(self.state, Waiting) or now < self.state.until:
            return []
        strangers = {peer for peer in (*bootstraps, *known) if peer not in neighbours and peer != self._me}
        for group in (bootstraps, known):
            fresh = sorted(peer for peer in set(group) & strangers if peer not in self._asked)
            if fresh:
                return self._ask(self._dice.choice(fresh), now)
        if strangers:
            return self._ask(self._dice.choice(sorted(strangers)), now)
        self.state = Idle(Micros(now + CHECK_INTERVAL))
        return []

    def answered(
        self, witness: PeerId, named: Sequence[Contact], kept: Sequence[Contact], known: Collection[PeerId], now: Micros
    ) -> list[Merge]:
        """A witness named who is near us and what it keeps under our key. `known`: whom we know ourselves."""
        if not isinstance(self.state, Waiting) or self.state.witness != witness:
            return []
        strangers = [contact for contact in named if contact.peer != self._me and contact.peer not in known]
        is_known = any(contact.peer == self._me for contact in (*named, *kept))
        if is_known and 2 * len(strangers) <= len(named):
            self.state = Idle(Micros(now + self._spread(CHECK_INTERVAL)))
            return []
        self.state = Idle(Micros(now + self._spread(CHECK_SOON)))
        if not strangers:
            return []  # A newcomer to both of us: it has met us by this question.
        self.splits += 1
        bridges = self._dice.sample(strangers, min(BRIDGES, len(strangers)))
        return [Merge(tuple(bridges), tuple(strangers))]

    def failed(self, witness: PeerId, now: Micros) -> None:
        """The witness did not answer: another one soon."""
        if isinstance(self.state, Waiting) and self.state.witness == witness:
            self.state = Idle(Micros(now + self._spread(CHECK_SOON)))

    def _ask(self, witness: PeerId, now: Micros) -> list[Probe]:
        self._asked.append(witness)
        self.state = Waiting(witness, Micros(now + PROBE_TIMEOUT))
        return [Probe(witness)]

    def _spread(self, span: Micros) -> int:
        """Nobody's checks fall together."""
        return self._dice.randrange(span * 3 // 4, span * 5 // 4)
