"""Challenges: does a holder still have what it promised? Spec: specs/27-custody.md.

A challenge is answered with a keyed hash over a few random pieces of the shard. The owner knows the answer from its own
copy, or from answers that it made while it still had one; each of those serves once, for a holder could keep answers
instead of the shard.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from blake3 import blake3

from protocol.completions import Proved
from protocol.effects import Compute, Effect, Prove, Send
from protocol.identity import Identity
from protocol.snapshots import Challenge, ChallengeAnswer
from protocol.units import MINUTE, SECOND, Digest, Micros, PeerId

PIECES: Final = 3
"""Random pieces of one challenge."""

PIECE_BYTES: Final = 4_096
"""Bytes of one piece: a disk reads no less. A holder that lost a tenth of a shard fails every fourth challenge."""

PREPARED: Final = 32
"""Answers made for each shard while its owner has it: five hours of audits."""

AUDIT_INTERVAL: Final = Micros(10 * MINUTE)
"""Microseconds between two audits of one holder."""

ANSWER_PATIENCE: Final = Micros(30 * SECOND)
"""Microseconds until a challenge counts as unanswered; a spinning disk and a full uplink need a few seconds."""

FETCH_EVERY: Final = 24
"""Audits of a holder of which one fetches a whole shard instead: proofs without bandwidth restore nothing."""

_KEY: Final = "shoal/1 challenges of shards"

Outcome = Literal["waiting", "true", "false"]


def challenge(identity: Identity, shard: Digest, size: int, number: int) -> Challenge:
    """The challenge of this number, the same whenever it is asked for, and unknown to everybody else."""
    key = blake3(identity.seed, derive_key_context=_KEY).digest()
    drawn = blake3(shard + number.to_bytes(8, "big"), key=key).digest(length=32 + 8 * PIECES)
    span = min(PIECE_BYTES, size)
    places = (int.from_bytes(drawn[at : at + 8], "big") % (size + span - 1) for at in range(32, len(drawn), 8))
    # A piece may hang over either end, and is then moved inside: else the outermost bytes would hardly be asked for.
    offsets = (min(max(place - span + 1, 0), size - span) for place in places)
    return Challenge(shard, drawn[:32], tuple(offsets), span)


@dataclass(slots=True)
class Probe:
    """One challenge that was sent."""

    peer: PeerId
    challenge: Challenge
    sent: Micros
    expected: bytes | None = None
    answer: bytes | None = None
    answered: Micros = field(default=Micros(0))

    @property
    def shard(self) -> Digest:
        """What is to be proved."""
        return Digest(self.challenge.shard)

    @property
    def outcome(self) -> Outcome:
        """Decided when both the answer and what it should be are here."""
        if self.answer is None or self.expected is None:
            return "waiting"
        return "true" if self.answer == self.expected else "false"

    @property
    def took(self) -> Micros:
        """Microseconds until the answer."""
        return Micros(self.answered - self.sent)


class Probes:
    """Challenges of one owner that are under way."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._open: dict[bytes, Probe] = {}
        self.newest = b""
        """The nonce of the challenge that was asked last."""

    def __len__(self) -> int:
        return len(self._open)

    def ask(
        self, peer: PeerId, shard: Digest, size: int, number: int, expected: bytes | None, now: Micros
    ) -> list[Effect]:
        """Challenge a holder. Without `expected`, the answer is computed from the own copy of the shard."""
        asked = challenge(self._identity, shard, size, number)
        self._open[asked.nonce] = Probe(peer, asked, now, expected)
        self.newest = asked.nonce
        own: list[Effect] = [] if expected is not None else [Compute(Prove(self._identity.peer, asked))]
        return [*own, Send(peer, asked)]

    def answered(self, sender: PeerId, message: ChallengeAnswer, now: Micros) -> Probe | None:
        """The probe that an answer decides, if it does. Nobody answers for another."""
        probe = self._open.get(message.nonce)
        if probe is None or probe.peer != sender or probe.shard != message.shard or probe.answer is not None:
            return None
        probe.answer, probe.answered = message.proof, now
        return self._decided(probe)

    def proved(self, message: Proved) -> Probe | None:
        """The same for what was computed here."""
        probe = self._open.get(message.nonce)
        if probe is None or message.peer != self._identity.peer or probe.shard != message.shard:
            return None
        probe.expected = message.proof
        return self._decided(probe)

    def overdue(self, now: Micros) -> list[Probe]:
        """Challenges whose time is over; they are closed. One whose own half never came is nobody's fault."""
        late = [probe for probe in self._open.values() if now - probe.sent >= ANSWER_PATIENCE]
        for probe in late:
            del self._open[probe.challenge.nonce]
        return [probe for probe in late if probe.answer is None]

    def _decided(self, probe: Probe) -> Probe | None:
        if probe.outcome == "waiting":
            return None
        del self._open[probe.challenge.nonce]
        return probe
