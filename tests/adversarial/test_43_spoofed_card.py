"""Attack 43: a machine without a card says that it has an H100.

Metadata counts for nothing: the benchmark's rows are committed within the time of the declared card. This machine's own
processor tries for real, once by hand and once live: asked by a steward, answered by the node's own child.
Honest twins: what an H100 at a third of its peak takes, in its time; and this processor, as what it is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
import trio

from node.benchmarking import Benchmarks, Spawn
from protocol.bench_messages import BenchRequest
from protocol.completions import Benched, Completion
from protocol.effects import Benchmark, Compute, Effect, Emit, Send
from protocol.errors import Refused
from protocol.messages import Gpu, Message, Offer
from protocol.units import HOUR, SECOND, Micros
from tests.verifier.bench_stand import ISSUER, PROVIDER, offer
from verifier.bench_answers import Answerer
from verifier.benchmarking import Issuer
from verifier.gpu_challenge import Answer, Challenge, check, chosen, product, standard
from verifier.plausibility import Device

H100 = Device.of("H100").gflops
CHALLENGE = Challenge(b"fresh beacon, nobody knew".ljust(32), 512, 4)
LATER = b"a later beacon".ljust(32)
RTT = 0


LIMIT = standard(CHALLENGE.seed).limit(H100, RTT)


def code_of(answer: Answer, took: float) -> str:
    opened = [answer.open(leaf) for leaf in chosen(CHALLENGE, answer.root, LATER)]
    try:
        check(CHALLENGE, answer.root, LATER, opened, round(took), LIMIT)
    except Refused as error:
        return error.code
    return "ok"


def multiply() -> tuple[Answer, int]:
    """The products by this machine's processor, and the µs that they took."""
    factors = [(CHALLENGE.matrix(index, "a"), CHALLENGE.matrix(index, "b")) for index in range(CHALLENGE.count)]
    began = time.perf_counter()
    products = [product(left, right) for left, right in factors]
    return Answer(CHALLENGE, products), round((time.perf_counter() - began) * SECOND)


def test_a_processor_is_no_h100() -> None:
    answer, took = multiply()
    whole = standard(CHALLENGE.seed).gop / CHALLENGE.gop * took
    assert code_of(answer, whole) == "too_slow", "at its own pace it does not finish the standard benchmark in time"


@pytest.mark.parametrize("share", [0, 2])
def test_answering_in_time_with_what_is_not_there_is_found(share: int) -> None:
    answer, _ = multiply()
    guessed = [item.copy() for item in answer.products]
    for item in guessed[share:]:
        item[:] = 0
    assert code_of(Answer(CHALLENGE, guessed), 1) == "wrong_row"


def test_honest_twin_a_real_one_at_a_third_of_its_peak() -> None:
    answer, _ = multiply()
    whole = standard(CHALLENGE.seed)
    overhead = whole.limit(10**15, 0)
    assert code_of(answer, overhead + whole.gop * 3 * SECOND / H100) == "ok"


class Pretending(Benchmarks):
    """A provider without a card: its child computes on the processor what was asked of an H100."""

    def begin(
        self,
        work: Benchmark,
        spawn: Spawn,
        give: Callable[[Completion], None],
    ) -> None:
        order = work.order
        plain = BenchRequest(order.bench, "cpu", 0, order.size, order.count)
        super().begin(Benchmark(work.task, work.step, plain, work.seed, work.root, work.beacon, work.rows), spawn, give)


@dataclass
class Live:
    """A steward and a provider on one machine: real children, the real clock and, between benchmarks, later hours."""

    offered: Offer
    benchmarks: Benchmarks
    nursery: trio.Nursery
    found: list[str] = field(default_factory=list)
    ahead: int = 0

    def __post_init__(self) -> None:
        self.issuer = Issuer(ISSUER, lambda now: {PROVIDER: self.offered}, lambda peer: 0, Random(43), 4)
        self.answerer = Answerer(lambda now: self.offered, lambda: False, lambda peer: True, lambda peer: True)
        self.send, self.done = trio.open_memory_channel[Completion](16)

    def now(self) -> Micros:
        return Micros(time.monotonic_ns() // 1_000 + self.ahead)

    async def ask(self) -> list[str]:
        """One benchmark; the codes of all that were concluded so far."""
        before = len(self.found)
        self._perform(self.issuer.ask(self.now()))
        with trio.fail_after(120):
            while len(self.found) == before:
                done: Completion | None = None
                with trio.move_on_after(0.2):
                    done = await self.done.receive()
                if isinstance(done, Benched):
                    machine = self.issuer if done.step == "check" else self.answerer
                    self._perform(machine.receive(ISSUER, done, self.now()))
                self._perform(self.issuer.tick(self.now()))
        self.ahead += HOUR
        self._perform(self.answerer.tick(self.now()))
        return self.found

    def _perform(self, effects: list[Effect]) -> None:
        waiting = deque(effects)
        while waiting:
            match waiting.popleft():
                case Send(peer, message):
                    waiting.extend(self._deliver(peer == ISSUER, message))
                case Compute(Benchmark() as work):
                    self.benchmarks.begin(work, self.nursery.start_soon, self.send.send_nowait)
                case Emit(name="benchmark", fields=fields):
                    self.found.append(str(fields["code"]))

    def _deliver(self, is_to_issuer: bool, message: Message) -> list[Effect]:
        if is_to_issuer:
            return self.issuer.receive(PROVIDER, message, self.now())
        return self.answerer.receive(ISSUER, message, self.now())


async def test_live_a_processor_that_says_h100_is_not_believed(nursery: trio.Nursery) -> None:
    h100 = Gpu("nvidia", "NVIDIA H100 80GB HBM3", 80 << 30, 0, 0)
    live = Live(offer(cpu_gflops=0, gpus=(h100,)), Pretending(), nursery)
    assert await live.ask() == ["too_slow"]
    assert live.issuer.trusted(PROVIDER, live.offered) is live.offered, "a bad moment is not held against anybody"
    assert await live.ask() == ["too_slow", "too_slow"]
    assert live.issuer.is_doubted(PROVIDER)
    assert live.issuer.trusted(PROVIDER, live.offered).capability.gpus == ()
    assert [said.code for said in live.answerer.said] == ["too_slow", "too_slow"]


async def test_live_honest_twin_a_processor_that_says_what_it_is(nursery: trio.Nursery) -> None:
    live = Live(offer(cpu_gflops=1_000), Benchmarks(), nursery)
    assert await live.ask() == ["plausible"]
    assert not live.issuer.is_doubted(PROVIDER)
