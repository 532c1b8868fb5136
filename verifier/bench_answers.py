"""Answering seeded benchmarks: a provider shows what its offer claims, seldom, and not while it works.

A challenge is work that others make it do: one at a time, a few in an hour, never more than its own claim says is a
second's, and half of them kept for validators, so that strangers cannot use up all. Spec: specs/41-benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from protocol.bench_messages import (
    BenchAnswer,
    BenchOpen,
    BenchReply,
    BenchRequest,
    BenchRow,
    BenchSeed,
    BenchVerdict,
)
from protocol.completions import Benched, Completion
from protocol.effects import Benchmark, Compute, Effect, Emit, Send, Wake
from protocol.errors import Refused
from protocol.identity import peer_text
from protocol.messages import Message, Offer
from protocol.units import HOUR, MINUTE, SECOND, Micros, PeerId
from verifier.bench_orders import claimed, order

ANSWERS_MAX: Final = 6
"""Benchmarks that a host gives away in an hour; half of them to validators alone."""

ANSWERS_PER_PEER: Final = 2
"""Of them to one peer."""

SEED_WITHIN: Final = Micros(30 * SECOND)
"""That a child waits for its seed, and with its products to be asked for rows, µs."""

MULTIPLY_WITHIN: Final = Micros(2 * MINUTE)
"""That a child may compute, µs: whoever needs longer is not believed anyway."""

VERDICTS_MAX: Final = 16
"""What was said of this host, remembered for its owner."""


@dataclass(frozen=True, slots=True)
class Said:
    """What an issuer made of an answer of ours."""

    peer: PeerId
    kind: str
    code: str
    took: Micros
    limit: Micros
    at: Micros


@dataclass(slots=True)
class _Running:
    issuer: PeerId
    order: BenchRequest
    until: Micros
    phase: Literal["starting", "ready", "multiplying", "committed", "opening"] = "starting"

    @property
    def task(self) -> str:
        return f"bench-{self.order.bench.hex()}"


class Answerer:
    """The answering side of one provider."""

    accepts: tuple[type, ...] = (BenchRequest, BenchSeed, BenchOpen, BenchVerdict, Benched)

    def __init__(
        self,
        offer: Callable[[Micros], Offer | None],
        is_busy: Callable[[], bool],
        is_issuer: Callable[[PeerId], bool],
        is_validator: Callable[[PeerId], bool],
    ) -> None:
        """`offer`: what this host claims now; `is_issuer`: who may ask at all."""
        self._offer = offer
        self._is_busy = is_busy
        self._is_issuer = is_issuer
        self._is_validator = is_validator
        self._running: _Running | None = None
        self._given: list[tuple[Micros, PeerId]] = []
        self._asked: dict[bytes, tuple[PeerId, str]] = {}
        self.said: list[Said] = []
        """The newest verdicts on this host, the oldest first."""

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        """A question, a step of the one that is under way, or its end."""
        match message:
            case BenchRequest():
                return self._requested(sender, message, now)
            case BenchVerdict():
                return self._told(sender, message, now)
            case Benched():
                running = self._running
                return self._done(running, message, now) if running and running.task == message.task else []
            case BenchSeed() | BenchOpen():
                running = self._running
                is_its = running is not None and (sender, message.bench) == (running.issuer, running.order.bench)
                return self._step(running, message, now) if running and is_its else []
        return []

    def tick(self, now: Micros) -> list[Effect]:
        """End what is overdue."""
        running = self._running
        if running is None:
            return []
        return self._end(running) if now >= running.until else [Wake(running.until)]

    # ── asked ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _requested(self, sender: PeerId, request: BenchRequest, now: Micros) -> list[Effect]:
        if not self._is_issuer(sender):
            raise Refused(
                "a benchmark asked for by a peer that is neither validator nor steward of any job",
                code="not_the_issuer",
                fix="Only validators and those who have carried a job may ask.",
            )
        if refusal := self._refusal(sender, request, now):
            return [Send(sender, BenchReply(request.bench, refusal))]
        self._given.append((now, sender))
        self._asked[request.bench] = (sender, request.kind)
        while len(self._asked) > VERDICTS_MAX:
            del self._asked[next(iter(self._asked))]
        running = self._running = _Running(sender, request, Micros(now + MULTIPLY_WITHIN))
        return [Compute(Benchmark(running.task, "ready", request)), Wake(running.until)]

    def _refusal(self, sender: PeerId, request: BenchRequest, now: Micros) -> str:
        """Why this host does not answer; empty: it does."""
        offer = self._offer(now)
        if offer is None or not offer.slots_free or offer.is_draining or self._running is not None or self._is_busy():
            return "busy"
        if request.kind == "gpu" and request.card >= len(offer.capability.gpus):
            return "no_card"
        claim = claimed(offer, request.kind, request.card)
        if not claim or request != order(request.bench, request.kind, request.card, claim):
            return "too_large"
        self._given = [item for item in self._given if item[0] > now - HOUR]
        mine = sum(1 for _, peer in self._given if peer == sender)
        others = sum(1 for _, peer in self._given if not self._is_validator(peer))
        is_full = len(self._given) >= ANSWERS_MAX or mine >= ANSWERS_PER_PEER
        if is_full or (not self._is_validator(sender) and others >= ANSWERS_MAX // 2):
            return "too_often"
        return ""

    # ── under way ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _step(self, running: _Running, message: BenchSeed | BenchOpen, now: Micros) -> list[Effect]:
        match message, running.phase:
            case BenchSeed(seed=seed), "ready":
                running.phase, running.until = "multiplying", Micros(now + MULTIPLY_WITHIN)
                return [Compute(Benchmark(running.task, "multiply", running.order, seed)), Wake(running.until)]
            case BenchOpen(beacon=beacon), "committed":
                running.phase, running.until = "opening", Micros(now + SEED_WITHIN)
                work = Benchmark(running.task, "open", running.order, beacon=beacon)
                return [Compute(work), Wake(running.until)]
        return []

    def _done(self, running: _Running, done: Benched, now: Micros) -> list[Effect]:
        bench, issuer = running.order.bench, running.issuer
        if done.code != "ok":
            return [Send(issuer, BenchReply(bench, "unable")), *self._end(running), self._noted(running, done.code)]
        running.until = Micros(now + SEED_WITHIN)
        match done.step, running.phase:
            case "ready", "starting":
                running.phase = "ready"
                return [Send(issuer, BenchReply(bench, "ready")), Wake(running.until)]
            case "multiply", "multiplying":
                running.phase = "committed"
                return [Send(issuer, BenchAnswer(bench, done.root)), Wake(running.until)]
            case "open", "opening":
                rows: list[Effect] = [Send(issuer, BenchRow(bench, row, path)) for row, path in done.rows]
                return [*rows, *self._end(running)]
        return []

    def _noted(self, running: _Running, code: str) -> Effect:
        return Emit("benchmark_failed", {"issuer": peer_text(running.issuer), "code": code})

    def _end(self, running: _Running) -> list[Effect]:
        self._running = None
        return [Compute(Benchmark(running.task, "end", running.order))]

    def _told(self, sender: PeerId, verdict: BenchVerdict, now: Micros) -> list[Effect]:
        """Kept for the owner; only of whom we answered."""
        peer, kind = self._asked.get(verdict.bench, (None, ""))
        if sender != peer:
            return []
        del self._asked[verdict.bench]
        took, limit = Micros(verdict.took), Micros(verdict.limit)
        self.said = [*self.said, Said(sender, kind, verdict.code, took, limit, now)][-VERDICTS_MAX:]
        fields: dict[str, str | int] = {"issuer": peer_text(sender), "kind": kind, "code": verdict.code}
        return [Emit("benchmarked", fields | {"took_us": int(took), "limit_us": int(limit)})]
