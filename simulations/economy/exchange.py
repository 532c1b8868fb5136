"""A market without a network: the node's own ledger, its operations in order, and nobody between.

Every move of money is an operation that `protocol.ledger` executes, with the signers that it must have. Careers of
hundreds of claims take milliseconds, so that an attack can be tried under a thousand seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from msgspec import UNSET

from protocol import operations, wire
from protocol.disputes import bond_min
from protocol.escrow_state import ChunkLease
from protocol.genesis import Genesis
from protocol.held import held_id
from protocol.ledger import Ledger
from protocol.messages import Outcome
from protocol.operations import Appeal, Assign, Claim, EscrowOpen, Found, Operation, Ruling, Verdict, op_id
from protocol.policy import Policy
from protocol.units import CREDIT, DAY, MINUTE, SECOND, Digest, Micros, PeerId

CHAIN: Final = "economy"
FUNDS: Final = 1_000_000 * CREDIT
"""Of every renter: more than any career spends."""

CHUNK_TIME: Final = Micros(30 * SECOND)
"""From a lease to its claim, and again to its verdict."""

LEASE_TIME: Final = Micros(60 * MINUTE)
"""From a lease to its deadline: enough for ten that are worked off one after the other."""


def key(name: str) -> PeerId:
    """The identity of an agent: nothing is signed here, so its name is enough."""
    return PeerId(hashlib.sha256(name.encode()).digest())


@dataclass(frozen=True, slots=True)
class Place:
    """One claim: escrow, chunk 0, epoch."""

    escrow: bytes
    epoch: int
    price: int
    provider: str

    @property
    def plain(self) -> tuple[bytes, int, int]:
        """As beacons and challenges name it."""
        return self.escrow, 0, self.epoch


class Exchange:
    """One ledger, its clock, and the money of everybody by name."""

    def __init__(
        self, policy: Policy, stakes: Mapping[str, int], dice: Random, renters: Iterable[str] = ("renter",)
    ) -> None:
        """`stakes`: smallest units that each agent has bound; each has as much again in free money."""
        balances: list[tuple[Literal["U", "S"], bytes, int]] = [("U", key(name), FUNDS) for name in renters]
        for name, amount in stakes.items():
            balances.append(("S", key(name), amount))
            balances.append(("U", key(name), amount))
        genesis = Genesis(CHAIN, 0, ((key("judge"), 1),), tuple(balances), policy=policy)
        self.ledger = Ledger(genesis)
        self.policy = policy
        self.dice = dice
        self.now = Micros(1)
        self._jobs = 0

    # ── one claim's life ─────────────────────────────────────────────────────────────────────────────────────────────
    def lease(self, provider: str, price: int, renter: str = "renter") -> Place | str:
        """A job of one chunk, leased; the reason code where the ledger refuses."""
        self._jobs += 1
        job = self._jobs.to_bytes(16, "big")
        deadline = self.now + 60 * DAY
        owner = key(renter)
        opened = EscrowOpen(owner, 0, self.ledger.next_sequence(owner), job, price, bytes(32), key("steward"), deadline)
        escrow = self.must(opened, renter).op
        claim_by = self.now + LEASE_TIME
        times = (claim_by, claim_by + 30 * MINUTE)
        lease = Assign(escrow, 0, 1, key(provider), price, price, *times, (key("steward"),))
        outcome = self.do(lease, provider, "steward")
        return Place(escrow, 1, price, provider) if outcome.status == "applied" else outcome.code

    def claim(self, place: Place, sealed: bytes | None = None, trace: bytes | None = None) -> None:
        """The provider is done."""
        self.wait(CHUNK_TIME)
        sealed = operations.seal(key(place.provider), bytes(32), Digest(bytes(32))) if sealed is None else sealed
        claimed = Claim(place.escrow, 0, place.epoch, sealed)
        if trace is not None:
            claimed = Claim(place.escrow, 0, place.epoch, sealed, trace, 16)
        self.must(claimed, place.provider)
        self.ledger.commit(self.random_bytes())

    def judge(self, place: Place, outcome: Found, code: str, auditor: str = "", faulted: tuple[str, ...] = ()) -> None:
        """The judges' verdict."""
        self.wait(CHUNK_TIME)
        verdict = Verdict(
            *(place.escrow, 0, place.epoch),
            outcome=outcome,
            is_audited=bool(auditor),
            auditor=key(auditor or "judge"),
            output=bytes(32),
            evidence=bytes(32),
            code=code,
            faulted=tuple(map(key, faulted)) or UNSET,
        )
        self.must(verdict, "judge")

    def appeal(self, place: Place, appellant: str, number: int = 1, rival: bytes = bytes(32)) -> str:
        """Stake the least bond on it that the decision is wrong; the ledger's code, `ok` when it stands."""
        staked = bond_min(self.policy, place.price, number)
        return self.do(Appeal(place.escrow, 0, place.epoch, key(appellant), staked, rival, number), appellant).code

    def rule(
        self, place: Place, number: int, outcome: Literal["upheld", "overturned"], finding: Found, panel: Iterable[str]
    ) -> None:
        """What the panel found."""
        self.wait(CHUNK_TIME)
        members = tuple(map(key, panel))
        self.must(Ruling(place.escrow, 0, place.epoch, number, outcome, finding, members, bytes(32), "panel"), "judge")

    # ── time and money ───────────────────────────────────────────────────────────────────────────────────────────────
    def wait(self, span: int) -> None:
        """Let the ledger's clock run."""
        self.now = Micros(self.now + span)
        self.ledger.advance(self.now)

    def settle(self) -> None:
        """Let every dispute window that can be open pass."""
        self.wait(4 * (self.policy.dispute_window + self.policy.rule_time + SECOND))

    def worth(self, name: str) -> int:
        """Free money, stake, and stake on its way out, smallest units. What is promised to others does not count."""
        return sum(self.ledger.available(cls, key(name)) for cls in ("U", "S", "B"))

    def stake(self, name: str) -> int:
        """What an agent has bound and nobody has pended."""
        return self.ledger.available("S", key(name))

    def streak(self, name: str) -> int:
        """Its valid results since the last fault."""
        standing = self.ledger.standings.get(key(name))
        return standing.consecutive_valid if standing is not None else 0

    def chunk(self, place: Place) -> ChunkLease:
        """What the ledger knows of a claim's chunk."""
        return self.ledger.escrows[place.escrow].chunks[0]

    def name_of_held(self, place: Place) -> bytes:
        """The id of a held decision."""
        return held_id(place.escrow, 0, place.epoch)

    def random_bytes(self) -> bytes:
        """32 bytes of chance."""
        return self.dice.randbytes(32)

    # ── operations ───────────────────────────────────────────────────────────────────────────────────────────────────
    def do(self, operation: Operation, *signers: str) -> Outcome:
        """Execute one operation with these signers."""
        body = wire.encode(operation)
        return self.ledger.execute(operation, op_id(body), frozenset(map(key, signers)))

    def must(self, operation: Operation, *signers: str) -> Outcome:
        """The same; it has to apply. Raises AssertionError with the ledger's words."""
        outcome = self.do(operation, *signers)
        assert outcome.status == "applied", outcome
        return outcome
