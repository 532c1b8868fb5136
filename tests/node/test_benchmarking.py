"""The child that multiplies for others, and the rows that are checked: real processes, small matrices."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import trio

from node.benchmark_child import UnableError, answered, on_card
from node.benchmarking import Benchmarks, checked
from protocol.bench_messages import BenchRequest
from protocol.completions import Benched, Completion
from protocol.effects import Benchmark
from tests.node.waiting import SECONDS
from verifier.gpu_challenge import Answer, Challenge, Int8, Int32, chosen, product

Rows = tuple[tuple[bytes, tuple[bytes, ...]], ...]
ORDER = BenchRequest(b"b" * 16, "cpu", 0, 96, 2)
SEED, BEACON = b"s" * 32, b"c" * 32
TORCH = Path(__file__).parents[2] / ".venv-torch/bin/python"


@dataclass
class Bench:
    """A node's benchmarks, and what they answered."""

    nursery: trio.Nursery
    benchmarks: Benchmarks = field(default_factory=Benchmarks)

    def __post_init__(self) -> None:
        self.send, self.answers = trio.open_memory_channel[Completion](8)

    async def do(self, work: Benchmark) -> Benched:
        def spawn(task: Callable[[], Awaitable[None]]) -> None:
            self.nursery.start_soon(task)

        self.benchmarks.begin(work, spawn, self.send.send_nowait)
        with trio.fail_after(SECONDS):
            done = await self.answers.receive()
        assert isinstance(done, Benched)
        return done


def step(name: str, order: BenchRequest = ORDER) -> Benchmark:
    return Benchmark("bench-1", name, order, SEED, beacon=BEACON)  # type: ignore[arg-type]


async def test_a_child_answers_and_its_rows_hold(nursery: trio.Nursery) -> None:
    bench = Bench(nursery)
    assert (await bench.do(step("ready"))).code == "ok"
    multiplied = await bench.do(step("multiply"))
    assert multiplied.root == answered(Challenge(SEED, 96, 2), product).root
    opened = await bench.do(step("open"))
    work = Benchmark("bench-check-1", "check", ORDER, SEED, multiplied.root, BEACON, opened.rows)
    assert (await bench.do(work)).code == "ok"


def test_rows_that_are_not_those_of_the_products() -> None:
    challenge = Challenge(SEED, 96, 2)
    answer = answered(challenge, product)
    nothing = Answer(challenge, [np.zeros((96, 96), np.int32)] * 2)

    def opened(answer: Answer) -> Rows:
        found = [answer.open(leaf) for leaf in chosen(challenge, answer.root, BEACON)]
        return tuple((row.astype("<i4").tobytes(), tuple(path)) for row, path in found)

    def code(rows: Rows, answer: Answer = answer, beacon: bytes = BEACON) -> str:
        return checked(Benchmark("", "check", ORDER, SEED, answer.root, beacon, rows))

    rows = opened(answer)
    first, path = rows[0]
    assert code(rows) == "ok"
    assert code(rows, beacon=b"d" * 32) == "bad_path", "other rows than those that were chosen"
    assert code(rows[:-1]) == "bad_path"
    assert code(((first[:-1], path), *rows[1:])) == "bad_path"
    assert code(((first[::-1], path), *rows[1:])) == "bad_path"
    assert code(opened(nothing), nothing) == "wrong_row", "committed to, and never made"


async def test_a_child_ends_when_it_is_told_to(nursery: trio.Nursery) -> None:
    bench = Bench(nursery)
    await bench.do(step("ready"))
    bench.benchmarks.begin(step("end"), lambda task: None, bench.send.send_nowait)
    with trio.fail_after(SECONDS):
        while nursery.child_tasks:
            await trio.lowlevel.checkpoint()
    assert (await bench.do(step("multiply"))).code == "unable"


async def test_without_a_card_or_an_interpreter_it_is_unable(nursery: trio.Nursery, tmp_path: Path) -> None:
    card = BenchRequest(b"b" * 16, "gpu", 0, 96, 1)
    assert (await Bench(nursery).do(step("ready", card))).code == "unable"
    gone = Bench(nursery, Benchmarks({"torch": tmp_path / "python"}))
    assert (await gone.do(step("ready", card))).code == "unable"


def test_the_frozen_program_is_its_own_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert Benchmarks().command("cpu") == [sys.executable, "_bench"]
    other = Benchmarks({"torch": Path("/opt/torch/bin/python")})
    assert other.command("cpu") == [sys.executable, "_bench"]
    assert other.command("gpu")[0] == "/opt/torch/bin/python"


def test_a_library_that_is_not_exact_is_found_out_by_its_first_row() -> None:
    def rounded(left: Int8, right: Int8) -> Int32:
        return product(left, right) // 2 * 2

    challenge = Challenge(SEED, 96, 2)
    assert answered(challenge, rounded).root == answered(challenge, product).root


@pytest.mark.skipif(not TORCH.exists(), reason="no .venv-torch")
def test_the_path_through_pytorch_gives_the_same_products() -> None:
    """On the processor, where `torch._int_mm` works too: only the device's name differs."""
    import subprocess

    program = (
        "import numpy as np\n"
        "from node.benchmark_child import on_card, product\n"
        "from verifier.gpu_challenge import Challenge\n"
        "c = Challenge(b's' * 32, 1536, 1)\n"
        "a, b = c.matrix(0, 'a')[:64], c.matrix(0, 'b')\n"
        "assert np.array_equal(on_card(0, 'cpu')(a, b), product(a, b))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [str(TORCH), "-P", "-c", program], env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_no_library_no_card() -> None:
    with pytest.raises(UnableError):
        on_card(63)
