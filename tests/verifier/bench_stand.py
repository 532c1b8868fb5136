"""One issuer and one provider in virtual time; how long the provider computes, and what its rows are worth, is said."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from msgspec import structs

from protocol.completions import Benched
from protocol.effects import Benchmark, Compute, Effect, Emit, Send
from protocol.messages import Capability, Gpu, Message, Offer
from protocol.units import MINUTE, SECOND, Digest, Micros, PeerId
from verifier.bench_answers import Answerer
from verifier.benchmarking import Issuer
from verifier.gpu_challenge import ROWS_OPENED

ISSUER, PROVIDER = PeerId(b"i" * 32), PeerId(b"p" * 32)
H100 = Gpu("nvidia", "NVIDIA H100 80GB HBM3", 80 << 30, 0, 0)
ROWS = (((b"\0" * 4096), ()),) * ROWS_OPENED


def offer(cpu_gflops: int = 12_000, gpus: tuple[Gpu, ...] = (), slots_free: int = 1) -> Offer:
    """What the provider claims."""
    has = Capability(4_000, 16 << 30, 100 << 30, cpu_gflops, 1_000, gpus)
    return Offer(1, 0, 1 << 60, ("provider",), (), has, ("bwrap",), (), 1, slots_free, 0, ())


@dataclass
class Stand:
    """Messages take `rtt` there and back; `took`: how long products take, in µs; `code`: of the check of its rows."""

    offered: Offer = field(default_factory=offer)
    took: int = SECOND
    code: str = "ok"
    rtt: int = 40_000
    measured: int | None = 40_000
    per_hour: int = 4
    is_busy: bool = False
    is_mute: bool = False
    now: Micros = Micros(1_000 * SECOND)
    told: list[Emit] = field(default_factory=list)
    works: list[Benchmark] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.issuer = Issuer(
            ISSUER, lambda now: {PROVIDER: self.offered}, lambda peer: self.measured, Random(7), self.per_hour
        )
        self.answerer = Answerer(
            lambda now: self.offered, lambda: self.is_busy, lambda peer: peer == ISSUER, lambda peer: True
        )

    def ask(self) -> list[str]:
        """One benchmark from its question to its end; the codes of what the issuer found."""
        before = len(self.told)
        self._run(deque((ISSUER, effect) for effect in self.issuer.ask(self.now)))
        self.now = Micros(self.now + 5 * MINUTE)
        self._run(deque((ISSUER, effect) for effect in self.issuer.tick(self.now)))
        self._run(deque((PROVIDER, effect) for effect in self.answerer.tick(self.now)))
        return [str(one.fields["code"]) for one in self.told[before:] if one.name == "benchmark"]

    def hours(self, count: int) -> None:
        """Let time go by, without a question."""
        self.now = Micros(self.now + count * 3600 * SECOND)

    def _run(self, waiting: deque[tuple[PeerId, Effect]]) -> None:
        while waiting:
            me, effect = waiting.popleft()
            match effect:
                case Send(peer, message) if not (self.is_mute and peer == PROVIDER):
                    self.now = Micros(self.now + self.rtt // 2)
                    waiting.extend((peer, one) for one in self._hear(peer, me, message))
                case Compute(Benchmark() as work):
                    self.works.append(work)
                    machine = self.issuer if work.step == "check" else self.answerer
                    if (done := self._done(work)) is not None:
                        waiting.extend((me, one) for one in machine.receive(me, done, self.now))
                case Emit():
                    self.told.append(effect)

    def _hear(self, peer: PeerId, sender: PeerId, message: Message) -> list[Effect]:
        machine = self.issuer if peer == ISSUER else self.answerer
        return machine.receive(sender, message, self.now) if isinstance(message, machine.accepts) else []

    def _done(self, work: Benchmark) -> Benched | None:
        match work.step:
            case "ready":
                self.now = Micros(self.now + 10 * SECOND)
                return Benched(work.task, "ready", "ok")
            case "multiply":
                self.now = Micros(self.now + self.took)
                return Benched(work.task, "multiply", "ok", Digest(b"r" * 32))
            case "open":
                return Benched(work.task, "open", "ok", rows=ROWS)
            case "check":
                return Benched(work.task, "check", self.code)
        return None


def changed(offered: Offer, **changes: object) -> Offer:
    """The offer with another capability."""
    return structs.replace(offered, capability=structs.replace(offered.capability, **changes))
