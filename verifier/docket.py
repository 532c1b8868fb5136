"""The appeals before a court: what each is about, what is waited for, and what must survive a restart.

Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol, get_args

from msgspec import Struct

from protocol import operations, wire
from protocol.effects import Effect, Emit, Store
from protocol.identity import Identity, peer_text
from protocol.messages import AuditRequest
from protocol.operations import Found, Hash, Key, Ruling, SignedOp
from protocol.units import Digest, Micros, PeerId
from verifier.arbiter import Seat
from verifier.case import Place
from verifier.game import game_id
from verifier.panel import Panel
from verifier.rehearing import Rehearing
from verifier.views import Facts

KEY: Final = "appeal/"
"""Under `appeal/<place>`: the seed of a trial, and who has sat on panels about it."""


class HeldView(Protocol):
    """One held decision (`protocol.held.Held`)."""

    @property
    def escrow(self) -> bytes: ...
    @property
    def chunk(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def provider(self) -> bytes: ...
    @property
    def finding(self) -> str: ...
    @property
    def output(self) -> bytes: ...
    @property
    def trace(self) -> bytes: ...
    @property
    def rival(self) -> bytes: ...
    @property
    def auditor(self) -> bytes: ...
    @property
    def round(self) -> int: ...
    @property
    def appeal(self) -> bytes: ...
    @property
    def appellant(self) -> bytes: ...
    @property
    def rule_by(self) -> int: ...
    @property
    def end(self) -> str: ...


class _Record(Struct, frozen=True):
    place: tuple[bytes, int, int]
    seed: Hash
    heard: tuple[Key, ...]


_record_decoder: Final = wire.decoder(_Record)


# ── states: one type each ────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Gathering:
    """Waits for the specification."""

    until: Micros
    asked: Micros


@dataclass(frozen=True, slots=True)
class Sitting:
    """Waits for a panel."""

    panel: Panel
    asked: Micros


@dataclass(slots=True)
class Rehearsing:
    """Waits for a panel that replays units within a tolerance."""

    rehearing: Rehearing
    asked: Micros


@dataclass(frozen=True, slots=True)
class Playing:
    """Waits for the end of a game about this."""

    about: bytes


@dataclass(frozen=True, slots=True)
class Ruled:
    """The ruling is signed; waits for the ledger to apply it."""

    signed: SignedOp
    sent: Micros


State = Gathering | Sitting | Rehearsing | Playing | Ruled

STATES: Final = (Gathering, Sitting, Rehearsing, Playing, Ruled)


@dataclass(slots=True)
class Trial:
    """One appeal."""

    place: Place
    appeal: bytes
    round: int
    seed: bytes
    """Of the draw: nobody knew it when the appeal was signed."""
    due: Micros
    """When waiting ends, on our clock."""
    provider: PeerId
    appellant: PeerId
    renter: PeerId
    steward: PeerId
    spec: Digest
    finding: str
    """What holds until it is overturned."""
    claimed: Digest
    """The output that was revealed; zeros where nothing was."""
    trace: bytes
    rival: bytes
    auditor: PeerId
    state: State
    facts: Facts | None = None
    game: Digest | None = None

    @property
    def parties(self) -> frozenset[PeerId]:
        """Who may not sit: both sides, whoever pays or carries the job, and who has judged it before."""
        return frozenset((self.provider, self.appellant, self.renter, self.steward, self.auditor))

    @property
    def game_id(self) -> Digest:
        """The game of the third round."""
        return game_id(self.trace, self.rival, self.seed)

    def request(self, facts: Facts, outputs: tuple[Digest, ...]) -> AuditRequest:
        """The whole chunk, to be executed again, blind; of a certificate, which has many right results, its check."""
        sources = tuple(dict.fromkeys((self.steward, self.provider, self.appellant)))
        return AuditRequest(
            *self.place,
            spec=facts.digest,
            spec_size=facts.size,
            outputs=outputs,
            sources=sources,
            renter=self.renter,
            result=self.claimed if facts.kind == "certificate" and facts.is_checked(self.place[1]) else b"",
        )

    def seat(self, facts: Facts, outputs: tuple[Digest, ...], members: tuple[PeerId, ...]) -> Seat:
        """Who replays the step at issue of this trial's game."""
        return Seat(self.request(facts, outputs), facts, self.claimed, (self.provider, self.appellant), members)

    def ruling(
        self,
        identity: Identity,
        chain: str,
        is_good: bool | None,
        code: str,
        panel: tuple[PeerId, ...],
        evidence: Digest | None,
    ) -> SignedOp:
        """What was found, signed. A claim that is refuted again keeps the fault that was found first."""
        found = self.found(is_good)
        ruling = Ruling(
            *self.place,
            round=self.round,
            outcome="upheld" if found == self.finding else "overturned",
            finding=found,
            panel=panel,
            evidence=evidence or Digest(bytes(32)),
            code=code,
        )
        return operations.signed_op(chain, ruling, identity)

    def found(self, is_good: bool | None) -> Found:
        """What holds from now on."""
        was = _FOUND[self.finding]
        if is_good is None or is_good == (was == "accept"):
            return was
        if is_good:
            return "accept"
        is_exact = self.facts is not None and self.facts.is_exact
        return ("fraud" if self.trace else "wrong") if is_exact else "rejected"

    def said(self, code: str, is_good: bool | None) -> Emit:
        """For people."""
        escrow, chunk, epoch = self.place
        fields: dict[str, str | int] = {
            "escrow": escrow.hex(), "chunk": chunk, "epoch": epoch, "round": self.round,
            "provider": peer_text(self.provider), "appellant": peer_text(self.appellant),
            "finding": self.found(is_good), "code": code,
        }  # fmt: skip
        return Emit("ruling", fields)


_FOUND: Final[dict[str, Found]] = {name: name for name in get_args(Found)}


@dataclass(slots=True)
class Docket:
    """All trials, and what is on disk about them."""

    trials: dict[Place, Trial] = field(default_factory=dict)
    seeds: dict[Place, bytes] = field(default_factory=dict)
    heard: dict[Place, frozenset[PeerId]] = field(default_factory=dict)
    """Who has sat on a panel about a claim: nobody sits twice."""

    def seed(self, place: Place, appeal: bytes, header: bytes) -> list[Effect]:
        """An appeal was ordered in the block with this header hash."""
        self.seeds[place] = hashlib.sha256(b"shoal/1\0appeal\0" + appeal + header).digest()
        return [self._store(place)]

    def ruled(self, place: Place, panel: tuple[PeerId, ...]) -> list[Effect]:
        """A ruling was applied."""
        self.heard[place] = self.heard.get(place, frozenset()) | frozenset(panel)
        return [self._store(place)] if place in self.seeds else []

    def forget(self, place: Place) -> Effect:
        """Nothing can be appealed about this claim any more."""
        self.seeds.pop(place, None)
        self.heard.pop(place, None)
        return Store(_key(place), None)

    def read(self, records: Iterable[tuple[str, bytes]]) -> None:
        """Records of an earlier run."""
        for key, value in records:
            if key.startswith(KEY):
                record = wire.decode(value, _record_decoder, PeerId(bytes(32)))
                self.seeds[record.place] = record.seed
                self.heard[record.place] = frozenset(PeerId(peer) for peer in record.heard)

    def _store(self, place: Place) -> Store:
        record = _Record(place, self.seeds[place], tuple(sorted(self.heard.get(place, frozenset()))))
        return Store(_key(place), wire.encode(record))


def _key(place: Place) -> str:
    return f"{KEY}{place[0].hex()}-{place[1]}-{place[2]}"
