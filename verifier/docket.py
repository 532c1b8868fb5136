"""The appeals before a court: what each is about, what is waited for, and what must survive a restart.

Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol, get_args

from msgspec import Struct, structs

from protocol import operations, wire
from protocol.effects import Effect, Emit, Store
from protocol.identity import Identity, peer_text
from protocol.messages import AuditRequest
from protocol.operations import Found, Hash, Key, Ruling, SignedOp
from protocol.units import Digest, Micros, PeerId
from verifier.arbiter import Seat
from verifier.case import Place
from verifier.game import game_id
from verifier.panel import SEATS, Panel
from verifier.rehearing import Rehearing
from verifier.summons import Summons
from verifier.views import EscrowView, Facts

KEY: Final = "appeal/"
"""Under `appeal/<place>`: the seed of a trial, and in which order peers are called to its panel."""


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
    def speaker(self) -> bytes: ...
    @property
    def payee(self) -> bytes: ...
    @property
    def is_audited(self) -> bool: ...
    @property
    def auditors(self) -> tuple[bytes, ...]: ...
    @property
    def faulted(self) -> tuple[bytes, ...]: ...
    @property
    def heard(self) -> tuple[bytes, ...]: ...
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


def barred(held: HeldView, escrow: EscrowView) -> frozenset[PeerId]:
    """Who may not sit, by the ledger: who is accused, whose claim it is, who appeals or speaks for a rival, who pays or
    carries the job, who did a part of the chunk, and who has judged or audited it before."""
    listed = (held.provider, held.payee, held.appellant, held.speaker, escrow.owner, escrow.steward)
    auditors = held.auditors if held.is_audited else ()  # Unaudited, a verdict names a judge in the place of one.
    lease = escrow.chunks[held.chunk]
    before = (*lease.former.values(), *lease.tainted.values(), *auditors, *held.faulted, *held.heard)
    return frozenset(PeerId(peer) for peer in (*listed, *before) if peer)


def inherited(escrow: EscrowView, place: Place) -> int:
    """Units of the claim that earlier leases answer for, by the ledger."""
    lease = escrow.chunks[place[1]]
    return lease.prefixes[-1].units if lease.epoch == place[2] and lease.prefixes else 0


class _Record(Struct, frozen=True):
    place: tuple[bytes, int, int]
    seed: Hash
    order: tuple[Key, ...] = ()
    sat: tuple[Key, ...] = ()


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
    """Whose claim it is; where an earlier lease is blamed, that is not who stands accused."""
    appellant: PeerId
    speaker: PeerId
    """Who opens the leaves of the rival trace."""
    renter: PeerId
    steward: PeerId
    spec: Digest
    finding: str
    """What holds until it is overturned."""
    claimed: Digest
    """The output that was revealed; zeros where nothing was."""
    trace: bytes
    rival: bytes
    order: tuple[PeerId, ...]
    """In which peers are called: the same at every judge."""
    barred: frozenset[PeerId]
    """Who may not sit; nobody who shares a network with one of these sits either."""
    inherited: int
    """Units that the claim took over from earlier leases."""
    state: State
    facts: Facts | None = None
    game: Digest | None = None
    unit: int | None = None
    """The one that a game has come down to."""

    @property
    def sides(self) -> frozenset[PeerId]:
        """Who has something to win or lose."""
        return frozenset((self.provider, self.appellant, self.speaker, self.renter, self.steward))

    @property
    def panel(self) -> Panel | None:
        """The one that sits."""
        match self.state:
            case Sitting(panel=panel):
                return panel
            case Rehearsing(rehearing=rehearing):
                return rehearing.panel
            case _:
                return None

    @property
    def seats(self) -> int:
        """Of this round's panel."""
        return SEATS[min(self.round, len(SEATS)) - 1]

    @property
    def game_id(self) -> Digest:
        """The game of the third round."""
        return game_id(self.trace, self.rival, self.seed)

    def request(self, facts: Facts, outputs: tuple[Digest, ...]) -> AuditRequest:
        """The whole chunk, to be executed again, blind; of a certificate, which has many right results, its check.

        Word for word what an auditor is asked before a verdict (`verifier.audits`): it tells of no appeal."""
        return AuditRequest(
            *self.place,
            spec=facts.digest,
            spec_size=facts.size,
            outputs=outputs,
            sources=(self.steward, self.provider),
            renter=self.renter,
            result=self.claimed if facts.kind == "certificate" and facts.is_checked(self.place[1]) else b"",
        )

    def seat(self, facts: Facts, outputs: tuple[Digest, ...], summons: Summons) -> Seat:
        """Who replays the step at issue of this trial's game. Either side has the state that both agree on."""
        request = self.request(facts, outputs)
        request = structs.replace(request, sources=(*request.sources, self.speaker))
        return Seat(request, facts, self.claimed, (self.provider, self.speaker), summons)

    def ruling(
        self,
        identity: Identity,
        chain: str,
        is_good: bool | None,
        code: str,
        evidence: Digest | None,
        seats: int,
    ) -> SignedOp:
        """What was found, signed. A claim that is refuted again keeps the fault that was found first.

        Of the panel it names who was drawn, as every judge knows it; who stood in for whom may differ."""
        found = self.found(is_good)
        ruling = Ruling(
            *self.place,
            round=self.round,
            outcome="upheld" if found == self.finding else "overturned",
            finding=found,
            panel=self.order[:seats],
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
        is_own = self.unit is not None and self.unit >= self.inherited
        if not is_exact or (self.inherited and not is_own):  # A panel cannot tell whose unit was bad: no stake for it.
            return "rejected"
        return "fraud" if self.trace else "wrong"

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


def trial_seed(appeal: bytes, header: bytes) -> bytes:
    """What the panel about an appeal is drawn with, from the hash of the header of the block that ordered it."""
    return hashlib.sha256(b"shoal/1\0appeal\0" + appeal + header).digest()


@dataclass(slots=True)
class Docket:
    """All trials, and what is on disk about them."""

    trials: dict[Place, Trial] = field(default_factory=dict)
    seeds: dict[Place, bytes] = field(default_factory=dict)
    orders: dict[Place, tuple[PeerId, ...]] = field(default_factory=dict)
    sat: dict[Place, frozenset[PeerId]] = field(default_factory=dict)
    """Who has sealed something for this judge's panels about a claim, stand-ins among them: nobody sits twice."""

    def enter(self, place: Place, seed: bytes, order: tuple[PeerId, ...]) -> list[Effect]:
        """An appeal was ordered; its panel is called in this order."""
        self.seeds[place], self.orders[place] = seed, order
        return [self._store(place)]

    def note(self, place: Place, members: Iterable[PeerId]) -> list[Effect]:
        """These have sat."""
        self.sat[place] = self.sat.get(place, frozenset()) | frozenset(members)
        return [self._store(place)]

    def forget(self, place: Place) -> Effect:
        """Nothing can be appealed about this claim any more."""
        self.seeds.pop(place, None)
        self.orders.pop(place, None)
        self.sat.pop(place, None)
        return Store(_key(place), None)

    def read(self, records: Iterable[tuple[str, bytes]]) -> None:
        """Records of an earlier run."""
        for key, value in records:
            if key.startswith(KEY):
                record = wire.decode(value, _record_decoder, PeerId(bytes(32)))
                self.seeds[record.place] = record.seed
                self.orders[record.place] = tuple(PeerId(peer) for peer in record.order)
                self.sat[record.place] = frozenset(PeerId(peer) for peer in record.sat)

    def _store(self, place: Place) -> Store:
        sat = tuple(sorted(self.sat.get(place, frozenset())))
        return Store(_key(place), wire.encode(_Record(place, self.seeds[place], self.orders[place], sat)))


def _key(place: Place) -> str:
    return f"{KEY}{place[0].hex()}-{place[1]}-{place[2]}"
