"""Claims of offers put to the test: who is asked for a seeded benchmark and when, and what follows.

The issuer draws the seed, its clock alone counts, and what it finds stays with it: it is an opinion, and never a
slash. Spec: specs/41-benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

from msgspec import structs

from protocol.bench_messages import (
    BenchAnswer,
    BenchKind,
    BenchOpen,
    BenchReply,
    BenchRequest,
    BenchRow,
    BenchSeed,
    BenchVerdict,
)
from protocol.completions import Benched, Completion
from protocol.effects import Benchmark, Compute, Effect, Emit, Send, Wake
from protocol.identity import peer_text
from protocol.messages import Message, Offer
from protocol.units import HOUR, MINUTE, SECOND, Micros, PeerId
from verifier.bench_orders import DOUBTED, KINDS, NOT_COUNTED, PRODUCT_OF_FLOP, Code, Shown, claimed, limit, order
from verifier.gpu_challenge import ROWS_OPENED, Challenge

RTT_UNKNOWN: Final = Micros(SECOND // 2)
"""Round trip to a peer that was not measured, µs."""

RTT_COUNTED_MAX: Final = Micros(SECOND)
"""Most that a measured round trip is worth, µs: who delays pings gains no more than that."""

READY_WITHIN: Final = Micros(MINUTE)
"""For the other to start its program: a first import of CUDA's libraries takes ten seconds and more."""

ROWS_WITHIN: Final = Micros(30 * SECOND)
"""For opened rows to come, and to be checked here."""

PATIENCE: Final = 2
"""Times the limit after which nothing is waited for any more."""

SLOW_MAX: Final = 2
"""Benchmarks in a row that have to be too slow: one may have met a busy moment."""

REFUSALS_MAX: Final = 8
"""Refusals in a row, of a host that offers a free slot, after which its claims count as not shown."""

RETEST: Final = Micros(10 * MINUTE)
"""Least time between two benchmarks of one host, µs."""

AGAIN: Final = Micros(24 * HOUR)
"""After which an unchanged claim is put to the test again, µs."""

RECORDS_MAX: Final = 8_192
"""Claims remembered: two for each of the offers that a peer keeps (`protocol.offers`)."""


@dataclass(slots=True)
class _Record:
    """One claim of one peer."""

    claims: tuple[object, ...]
    due: Micros = Micros(0)
    is_new: bool = True
    """Nobody has put it to the test yet."""
    slow: int = 0
    refusals: int = 0
    shown: Shown | None = None

    @property
    def is_doubted(self) -> bool:
        """Whether it was shown to be false."""
        return self.shown is not None and self.shown.code in DOUBTED


@dataclass(slots=True)
class _Running:
    """The one benchmark that is under way."""

    peer: PeerId
    order: BenchRequest
    claim: int
    until: Micros
    phase: Literal["asked", "seeded", "opening", "checking"] = "asked"
    sent: Micros = Micros(0)
    took: Micros = Micros(0)
    seed: bytes = b""
    beacon: bytes = b""
    root: bytes = b""
    rows: list[tuple[bytes, tuple[bytes, ...]]] = field(default_factory=list)

    @property
    def limit(self) -> Micros:
        return limit(self.order, self.claim)

    @property
    def task(self) -> str:
        return f"bench-check-{self.order.bench.hex()}"


class Issuer:
    """Asks providers, one at a time, at random intervals, new and changed claims first."""

    accepts: tuple[type, ...] = (BenchReply, BenchAnswer, BenchRow, Benched)

    def __init__(
        self,
        me: PeerId,
        offers: Callable[[Micros], Mapping[PeerId, Offer]],
        rtt: Callable[[PeerId], int | None],
        dice: Random,
        per_hour: int,
    ) -> None:
        """`rtt`: µs, as measured by this peer; None where it was not. `per_hour` = 0: nobody is asked."""
        self._me = me
        self._offers = offers
        self._rtt = rtt
        self._dice = dice
        self._per_hour = per_hour
        self._next: Micros | None = None
        self._running: _Running | None = None
        self._records: dict[tuple[PeerId, BenchKind], _Record] = {}

    # ── what follows from it ─────────────────────────────────────────────────────────────────────────────────────────
    def found(self, peer: PeerId) -> dict[BenchKind, Shown]:
        """What was found of a peer so far, for the newest claims that were put to the test."""
        found: dict[BenchKind, Shown] = {}
        for kind in KINDS:
            row = self._records.get((peer, kind))
            if row is not None and row.shown is not None:
                found[kind] = row.shown
        return found

    def is_doubted(self, peer: PeerId) -> bool:
        """Whether a claim of it was shown to be false, and none of that kind to be true since."""
        rows = (self._records.get((peer, kind)) for kind in KINDS)
        return any(row is not None and row.is_doubted for row in rows)

    def trusted(self, peer: PeerId, offer: Offer) -> Offer:
        """The offer with the lower of what it claims and what was shown; cards that were not shown are none."""
        found, has = self.found(peer), offer.capability
        if (cpu := found.get("cpu")) is not None and cpu.code in DOUBTED:
            has = structs.replace(has, cpu_gflops=min(has.cpu_gflops, cpu.shown // PRODUCT_OF_FLOP))
        if (gpu := found.get("gpu")) is not None and gpu.code in NOT_COUNTED:
            has = structs.replace(has, gpus=())
        return offer if has is offer.capability else structs.replace(offer, capability=has)

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def tick(self, now: Micros) -> list[Effect]:
        """Ask somebody when it is time; end what is overdue."""
        if not self._per_hour:
            return []
        if self._next is None:
            self._next = self._later(now)
        effects: list[Effect] = []
        if self._running is not None and now >= self._running.until:
            effects += self._overdue(self._running, now)
        if now >= self._next:
            self._next = self._later(now)
            effects += self.ask(now) if self._running is None else []
        until = self._running.until if self._running is not None else self._next
        return [*effects, Wake(min(until, self._next))]

    def ask(self, now: Micros) -> list[Effect]:
        """Ask one of those whose claims are due; nothing where there is none."""
        due = [item for peer, offer in sorted(self._offers(now).items()) for item in self._due(peer, offer, now)]
        if not due:
            return []
        fresh = [item for item in due if self._is_new(item[0], item[1])]
        peer, kind, card, claim = self._dice.choice(fresh or due)
        request = order(self._dice.randbytes(16), kind, card, claim)
        self._running = _Running(peer, request, claim, Micros(now + READY_WITHIN))
        return [Send(peer, request), Wake(self._running.until)]

    def _is_new(self, peer: PeerId, kind: BenchKind) -> bool:
        """Whether nobody has put the claim to the test yet; one that was forgotten meanwhile is new again."""
        record = self._records.get((peer, kind))
        return record is None or record.is_new

    def _later(self, now: Micros) -> Micros:
        """Exponential, so that none tells of the next."""
        return Micros(now + round(self._dice.expovariate(self._per_hour) * HOUR))

    def _due(self, peer: PeerId, offer: Offer, now: Micros) -> list[tuple[PeerId, BenchKind, int, int]]:
        """(peer, kind, card, claim) of what may be asked of an offer now."""
        if peer == self._me or not offer.slots_free or offer.is_draining:
            return []
        found: list[tuple[PeerId, BenchKind, int, int]] = []
        for kind in KINDS:
            cards = len(offer.capability.gpus) if kind == "gpu" else 1
            if not cards:
                continue
            card = self._dice.randrange(cards)
            record, claim = self._record(peer, kind, offer), claimed(offer, kind, card)
            if not claim and kind == "gpu" and not record.is_doubted:
                record.shown = Shown("unknown_gpu", 0, 0, at=now)
            elif claim and record.due <= now:
                found.append((peer, kind, card, claim))
        return found

    def _record(self, peer: PeerId, kind: BenchKind, offer: Offer) -> _Record:
        """A changed claim is due as soon as the last question is long enough ago; what was found of it stays until
        something else is: nobody gets rid of a finding by another claim."""
        has = offer.capability
        claims = (has.cpu_gflops,) if kind == "cpu" else tuple((card.name, card.gemm_gflops) for card in has.gpus)
        known = self._records.get((peer, kind))
        if known is None:
            if len(self._records) >= RECORDS_MAX:  # Names are free: many of them wash no doubt away.
                oldest = next((key for key, row in self._records.items() if not row.is_doubted), None)
                del self._records[oldest or next(iter(self._records))]
            known = self._records[peer, kind] = _Record(claims)
        elif known.claims != claims:
            last = known.shown.at if known.shown is not None else Micros(0)
            known.claims, known.is_new, known.due = claims, True, min(known.due, Micros(last + RETEST))
        return known

    def _overdue(self, running: _Running, now: Micros) -> list[Effect]:
        if running.phase == "checking":  # Ours: nobody's fault.
            self._running = None
            return []
        if running.phase != "seeded":
            return self._conclude("no_answer", 0, now)
        running.took = self._elapsed(running, now)
        return self._conclude("too_slow", self._rate(running), now)

    # ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        """The answers of whom was asked; of anybody else, or to what is over, nothing."""
        running = self._running
        if running is None:
            return []
        if isinstance(message, Benched):
            is_ours = message.task == running.task and running.phase == "checking"
            return self._checked(running, message.code, now) if is_ours else []
        if not isinstance(message, BenchReply | BenchAnswer | BenchRow):
            return []
        if sender != running.peer or message.bench != running.order.bench:
            return []
        match message, running.phase:
            case BenchReply(code="ready"), "asked":
                return self._seed(running, now)
            case BenchReply(), "asked" | "seeded" | "opening":
                return self._conclude("no_answer", 0, now)
            case BenchAnswer(root=root), "seeded":
                return self._answered(running, root, now)
            case BenchRow(row=row, path=path), "opening":
                return self._row(running, row, path, now)
        return []

    def _seed(self, running: _Running, now: Micros) -> list[Effect]:
        running.phase, running.sent, running.seed = "seeded", now, self._dice.randbytes(32)
        running.until = Micros(now + PATIENCE * running.limit + RTT_COUNTED_MAX)
        return [Send(running.peer, BenchSeed(running.order.bench, running.seed)), Wake(running.until)]

    def _answered(self, running: _Running, root: bytes, now: Micros) -> list[Effect]:
        running.took, running.root = self._elapsed(running, now), root
        running.phase, running.beacon = "opening", self._dice.randbytes(32)
        running.until = Micros(now + ROWS_WITHIN)
        return [Send(running.peer, BenchOpen(running.order.bench, running.beacon)), Wake(running.until)]

    def _row(self, running: _Running, row: bytes, path: tuple[bytes, ...], now: Micros) -> list[Effect]:
        running.rows.append((row, path))
        if len(running.rows) < min(ROWS_OPENED, running.order.size * running.order.count):
            return []
        running.phase, running.until = "checking", Micros(now + ROWS_WITHIN)
        work = Benchmark(
            running.task, "check", running.order, running.seed, running.root, running.beacon, tuple(running.rows)
        )
        return [Compute(work), Wake(running.until)]

    def _checked(self, running: _Running, code: str, now: Micros) -> list[Effect]:
        if code != "ok":
            return self._conclude("wrong_row", 0, now)
        rate = self._rate(running)
        if running.took > running.limit:
            return self._conclude("too_slow", rate, now)
        return self._conclude("plausible", max(rate, running.claim), now)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _elapsed(self, running: _Running, now: Micros) -> Micros:
        """Arrival less sending less the round trip: what the net takes counts against nobody."""
        rtt = self._rtt(running.peer)
        return Micros(max(0, now - running.sent - min(RTT_UNKNOWN if rtt is None else rtt, RTT_COUNTED_MAX)))

    def _rate(self, running: _Running) -> int:
        """Millions of operations per second, making matrices and hashing counted in."""
        whole = Challenge(b"", running.order.size, running.order.count).gop
        return round(whole * 1_000 * SECOND / max(1, running.took))

    def _conclude(self, code: Code, rate: int, now: Micros) -> list[Effect]:
        """Put down what was found. Once too slow, and a refusal, are no finding yet."""
        running, self._running = self._running, None
        assert running is not None
        record = self._records.get((running.peer, running.order.kind))
        if record is None:
            return []
        record.is_new = False
        record.slow = record.slow + 1 if code == "too_slow" else 0
        record.refusals = record.refusals + 1 if code == "no_answer" else 0
        is_final = code in ("plausible", "wrong_row") or record.slow >= SLOW_MAX or record.refusals >= REFUSALS_MAX
        keeps_doubt = code == "no_answer" and record.is_doubted
        record.due = Micros(now + (AGAIN if code == "plausible" else RETEST))
        if is_final and not keeps_doubt:
            record.shown = Shown(code, running.claim, rate, running.took, running.limit, now)
        told = BenchVerdict(running.order.bench, code, running.took, running.limit)
        fields: dict[str, str | int] = {
            "peer": peer_text(running.peer), "kind": running.order.kind, "code": code, "took_us": int(running.took),
            "limit_us": int(running.limit), "claimed": running.claim, "shown": rate,
        }  # fmt: skip
        return [Send(running.peer, told), Emit("benchmark", fields)]
