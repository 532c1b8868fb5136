"""Audits of everything that a custodian guards: one per holder at a time, now and then by fetching a whole shard.

A holder that proves what it has is scored for truth and for how long it took; one that is fetched from, for its speed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocol.completions import Proved
from protocol.effects import Compute, Effect, Emit, Fetch, Prove, Store
from protocol.identity import peer_text
from protocol.snapshots import ChallengeAnswer
from protocol.units import MIB, MINUTE, Digest, Micros, PeerId
from storage.audits import AUDIT_INTERVAL, FETCH_EVERY, PREPARED, Probe, Probes, challenge
from storage.guarded import Guarded
from storage.neighbourhood import Around

SILENT_AGAIN: Final = Micros(1 * MINUTE)
"""Microseconds until a holder that did not answer is asked again."""

FETCH_BYTES_MAX: Final = 64 * MIB
"""Bytes of a shard that an audit fetches at most."""

NUMBERS: Final = 1_000
"""Challenges in one microsecond: their numbers never come twice, not even after a restart."""

Held = tuple[Guarded, int]
"""A pack and the index of one of its shards."""


class Patrol:
    """Who is audited when, with what."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self._probes = Probes(around.identity)
        self._due: dict[PeerId, Micros] = {}
        self._count: dict[PeerId, int] = {}
        self._fetching: dict[Digest, tuple[PeerId, Micros, Digest, int]] = {}
        """Shard -> holder, since when, pack, index."""
        self._preparing: dict[bytes, tuple[Digest, int, int]] = {}
        """Nonce -> pack, index and number of a challenge whose answer is made in advance."""
        self._numbered = 0

    def audit(self, packs: Iterable[Guarded], now: Micros) -> list[Effect]:
        """Challenge every holder whose turn it is about one of its shards, chosen by chance."""
        held: dict[PeerId, list[Held]] = {}
        for known in packs:
            for index, peers in known.custody.receipts.items():
                for peer in peers:
                    if peer != self._around.me:
                        held.setdefault(peer, []).append((known, index))
        self._due = {peer: due for peer, due in self._due.items() if peer in held}
        self._count = {peer: count for peer, count in self._count.items() if peer in held}
        effects: list[Effect] = []
        for peer, shards in sorted(held.items()):
            due = self._due.get(peer)
            if due is None:  # Not all in the same second, and nobody knows when.
                self._due[peer] = Micros(now + self._around.dice.randrange(AUDIT_INTERVAL))
            elif due <= now:
                self._due[peer] = Micros(now + AUDIT_INTERVAL)
                known, index = shards[self._around.dice.randrange(len(shards))]
                effects += self._ask(peer, known, index, now)
        return effects

    def look(self, now: Micros) -> None:
        """Those who did not answer are asked again soon; three times, and the silence counts."""
        for probe in self._probes.overdue(now):
            self._around.neighbourhood.standings.silent(probe.peer)
            self._due[probe.peer] = Micros(now + SILENT_AGAIN)

    def answered(self, sender: PeerId, message: ChallengeAnswer, now: Micros) -> Probe | None:
        """What an answer decides."""
        return self._scored(self._probes.answered(sender, message, now), now)

    def proved(self, message: Proved, now: Micros) -> Probe | None:
        """What the own half of a challenge decides."""
        return self._scored(self._probes.proved(message), now)

    def prepare(self, known: Guarded, now: Micros) -> list[Effect]:
        """Make answers in advance about every shard that is here, for the time when it is not."""
        pins = self._around.pins
        here = [index for index in range(known.custody.pack.n) if pins.has(known.custody.shard(index))]
        return [effect for index in here for effect in self._prepare(known, index, now)]

    def prepared(self, message: Proved, packs: dict[Digest, Guarded]) -> list[Effect]:
        """One such answer."""
        found = self._preparing.get(message.nonce)
        if found is None or message.peer != self._around.me:
            return []
        del self._preparing[message.nonce]
        name, index, number = found
        is_last = not any(waiting[:2] == (name, index) for waiting in self._preparing.values())
        known = packs.get(name)
        if known is not None:
            known.answers.setdefault(index, {})[number] = message.proof
        if not is_last:
            return []
        effects: list[Effect] = [Store(*known.stored())] if known is not None else []
        return [*effects, *self._around.pins.unpin([Digest(message.shard)], _user(message.shard))]

    def fetched(self, digest: Digest, size: int, packs: dict[Digest, Guarded], now: Micros) -> list[Effect]:
        """A whole shard came: its holder has it, and is as fast as that."""
        found = self._fetching.pop(digest, None)
        if found is None:
            return []
        peer, since, name, index = found
        standings = self._around.neighbourhood.standings
        standings.served(peer, size, Micros(now - since))
        standings.proved(peer, Micros(now - since), now)
        known = packs.get(name)
        made = self._prepare(known, index, now) if known is not None else []
        return made or self._around.pins.unpin([digest], _user(digest))

    def fetch_failed(self, digest: Digest, now: Micros) -> list[Effect]:
        """It did not come."""
        found = self._fetching.pop(digest, None)
        if found is None:
            return []
        self._around.neighbourhood.standings.silent(found[0])
        self._due[found[0]] = Micros(now + SILENT_AGAIN)
        return self._around.pins.unpin([digest], _user(digest))

    def _ask(self, peer: PeerId, known: Guarded, index: int, now: Micros) -> list[Effect]:
        shard, size = known.custody.shard(index), known.custody.pack.shard_size
        self._count[peer] = self._count.get(peer, 0) + 1
        is_here = self._around.pins.has(shard)
        answers = known.answers.get(index, {})
        if is_here:
            return self._probes.ask(peer, shard, size, self._number(now), None, now)
        if (self._count[peer] % FETCH_EVERY == 0 or not answers) and size <= FETCH_BYTES_MAX:
            if shard in self._fetching:
                return []
            self._fetching[shard] = (peer, now, known.name, index)
            self._around.pins.pin(shard, _user(shard))
            return [Compute(Fetch(shard, size, (peer,)))]
        if not answers:
            return []
        number = next(iter(answers))
        expected = answers.pop(number)
        return self._probes.ask(peer, shard, size, number, expected, now)

    def _prepare(self, known: Guarded, index: int, now: Micros) -> list[Effect]:
        shard, size = known.custody.shard(index), known.custody.pack.shard_size
        missing = PREPARED - len(known.answers.get(index, {}))
        effects: list[Effect] = []
        for _ in range(max(0, missing)):
            number = self._number(now)
            made = challenge(self._around.identity, shard, size, number)
            self._preparing[made.nonce] = (known.name, index, number)
            effects.append(Compute(Prove(self._around.me, made)))
        if effects:
            self._around.pins.pin(shard, _user(shard))
        return effects

    def _scored(self, probe: Probe | None, now: Micros) -> Probe | None:
        if probe is None:
            return None
        standings = self._around.neighbourhood.standings
        if probe.outcome == "true":
            standings.proved(probe.peer, probe.took, now)
        else:
            standings.lied(probe.peer, now)
        return probe

    def _number(self, now: Micros) -> int:
        self._numbered = (self._numbered + 1) % NUMBERS
        return now * NUMBERS + self._numbered


def lost(probe: Probe) -> Emit:
    """A holder was asked to prove a shard, and could not."""
    return Emit("holder_lied", {"peer": peer_text(probe.peer), "shard": probe.shard.hex()})


def _user(shard: bytes) -> str:
    return f"audit/{shard.hex()}"
