"""What all cases of one judge share: who it is, whom it can ask, and how a decision leaves it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol import operations, wire
from protocol.effects import Effect, Emit, Send, Wake
from protocol.identity import Identity, peer_text
from protocol.messages import RevealRequest, Submit
from protocol.operations import Found
from protocol.units import Digest, Micros, PeerId
from verifier import sampling
from verifier.attestation.makers import BUILT_IN, Makers
from verifier.case import Case, Charge, Decided, Hearing, Place, Revealing, verdict_of
from verifier.deadlines import AUDITOR_FAILURES_MAX, REVEAL_TIMEOUT, next_look
from verifier.drift_watch import DriftWatch
from verifier.no_shows import NoShows
from verifier.settling import Settlement
from verifier.views import Facts, LedgerView, outputs_read

Auditors = Callable[[Facts, PeerId], Mapping[PeerId, int]]
"""Peers whose execution of this specification can be compared with this provider's, and their stakes."""

Networks = Callable[[PeerId], frozenset[str]]
"""The networks of a peer's public addresses (`verifier.networks`): who shares one is taken for the same operator."""

Floor = Callable[[Place, PeerId], Callable[[int], int]]
"""At a claim: the job's own share of audits, ppm, to the share that is in force. Taken when the claim is ordered, so
that all judges draw from the same."""


Canaries = Callable[[Place, PeerId, Digest], Digest | None]
"""What proves that an opened output is wrong, because its answer was known: the digest of an opened canary
(`verifier.canary_book.Conviction`). None where nothing is known, or it is right."""


@dataclass(frozen=True, slots=True)
class Caution:
    """What keeps judges from being gamed, beyond the beacon. Without more knowledge: the job's own floor."""

    networks: Networks = lambda peer: frozenset()
    floor: Floor = lambda place, provider: int
    canary: Canaries = lambda place, provider, output: None
    is_doubted: Callable[[PeerId], bool] = lambda peer: False
    """Whether a provider's offer was shown to claim what is not so (`verifier.benchmarking`)."""
    makers: Makers = BUILT_IN
    """Whose trusted hardware is believed."""


CARELESS: Final = Caution()
"""Where nothing is known of peers but what their job says."""


@dataclass(slots=True)
class Bench:
    """Wired once."""

    identity: Identity
    chain: str
    ledger: Callable[[], LedgerView]
    validators: Callable[[], tuple[PeerId, ...]]
    auditors: Auditors
    read_blob: Callable[[Digest], bytes]
    caution: Caution = CARELESS
    facts: dict[Digest, Facts] = field(default_factory=dict)
    cases: dict[Place, Case] = field(default_factory=dict)
    no_shows: NoShows = field(default_factory=NoShows)
    drifts: DriftWatch = field(init=False)

    def __post_init__(self) -> None:
        mine = self.identity.sign(wire.signing_bytes(self.chain, "drift-secret", b""))
        self.drifts = DriftWatch(hashlib.sha256(mine).digest())

    def outputs(self, escrow: bytes, chunk: int, facts: Facts) -> tuple[Digest, ...] | None:
        """What a step reads of earlier ones, as court and witness read it; None when one is not accepted now, or the
        ledger has forgotten the job: it may be many blocks ahead of what its judge has heard."""
        job = self.ledger().escrows.get(escrow)
        if job is None:
            return None
        earlier = [lease for index, lease in job.chunks.items() if index < facts.chunks <= chunk]
        return outputs_read(job, chunk, facts.chunks) if all(lease.state == "paid" for lease in earlier) else None

    def draw(self, case: Case, hearing: Hearing, is_fresh: bool, now: Micros) -> PeerId | None:
        """The next auditor of a case: nobody who has a part in it or shares a network with who has.

        Rather somebody whom nobody of this hearing shares a network with, and rather not one who failed lately; one who
        was asked before only if there is no other, and if `is_fresh` rather nobody at all. Nobody fails for ever."""
        assert case.facts is not None
        ours = frozenset(network for peer in self._sides(case) for network in self.caution.networks(peer))
        candidates = {
            peer: stake
            for peer, stake in self.auditors(case.facts, case.provider).items()
            if peer not in case.parties and not self.caution.networks(peer) & ours
        }
        tried, late = frozenset(hearing.tried), self.no_shows.lately(now)
        theirs = frozenset(network for peer in tried for network in self.caution.networks(peer))
        near = frozenset(peer for peer in candidates if self.caution.networks(peer) & theirs)
        worn = frozenset(peer for peer, times in hearing.failures.items() if times >= AUDITOR_FAILURES_MAX)
        turns = [tried | near | late, tried | late, tried | near, tried]
        for excluded in turns if is_fresh else [*turns, worn]:
            drawn = sampling.draw_auditor(case.beacon, case.place, case.turn, candidates, excluded)
            if drawn is not None:
                return drawn
        me = self.identity.peer
        is_out = me == case.provider or me in case.signers or me in worn or (is_fresh and me in tried)
        return None if is_out else me

    @staticmethod
    def _sides(case: Case) -> frozenset[PeerId]:
        """Whose neighbours may not audit: who did the work, and who carries the job."""
        return case.signers | {case.provider, case.steward}

    def ask_reveal(self, case: Case, now: Micros) -> list[Effect]:
        """The provider may open its claim now."""
        case.state = Revealing(Micros(now + REVEAL_TIMEOUT), now)
        return [Send(case.provider, RevealRequest(*case.place)), Wake(next_look(case))]

    def decide(
        self, case: Case, outcome: Found, code: str, now: Micros, settled: Settlement | None = None
    ) -> list[Effect]:
        """The end of a case that is about the claim as a whole."""
        return self.sign(case, Charge(outcome, code, settled), now)

    def sign(self, case: Case, charge: Charge, now: Micros, blamed: int = 0) -> list[Effect]:
        """Sign what was found and hand it to everybody who orders. `blamed`: epoch of an earlier lease at fault."""
        verdict = verdict_of(case, self.validators()[0], charge, blamed)
        signed = operations.signed_op(self.chain, verdict, self.identity)
        case.state = Decided(signed, now)
        told = self.fields(case, PeerId(verdict.auditor)) | {"outcome": charge.outcome, "code": charge.code}
        said = Emit("verdict", told | {"blamed": blamed} if blamed else told)
        return [*(Send(peer, Submit((signed,))) for peer in self.validators()), said, Wake(next_look(case))]

    def fields(self, case: Case, auditor: PeerId) -> dict[str, str | int]:
        """Who and what, for people."""
        return self.named(case) | {"auditor": peer_text(auditor)}

    def named(self, case: Case) -> dict[str, str | int]:
        """Which claim, for people."""
        escrow, chunk, epoch = case.place
        return {"escrow": escrow.hex(), "chunk": chunk, "epoch": epoch, "provider": peer_text(case.provider)}
