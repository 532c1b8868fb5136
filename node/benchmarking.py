"""Seeded benchmarks on a live node: the child that answers, the rows that are checked, and both machines wired.

Spec: specs/41-benchmarks.md.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Final

import numpy as np
import trio

from node import entropy
from node.capability import cpu_count
from node.executors.process import kill_group
from protocol.bench_messages import PATH_MAX, ROW_BYTES_MAX
from protocol.completions import Benched, Completion
from protocol.effects import Benchmark, Machine
from protocol.errors import Refused
from protocol.messages import Offer
from protocol.units import Digest, Micros, PeerId
from verifier.bench_answers import MULTIPLY_WITHIN, Answerer
from verifier.benchmarking import Issuer
from verifier.gpu_challenge import ROWS_OPENED, Challenge, Int32, check
from verifier.wiring import Machines

CHILD: Final = "_bench"
"""The hidden word by which the frozen program is the child; shoal/__main__.py knows it."""

CHILD_SECONDS: Final = 3 * MULTIPLY_WITHIN / 1e6
"""Wall time that a child may live; the machine ends it earlier."""

LINE_BYTES_MAX: Final = 2 * (ROW_BYTES_MAX + 32 * PATH_MAX) + 64
"""Of a row and its path in hexadecimal."""

THREADS: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""An offer's `cpu_gflops` is one thread's, and one is what a benchmark takes."""

Give = Callable[[Completion], None]
Spawn = Callable[[Callable[[], Awaitable[None]]], None]

log = logging.getLogger("shoal.benchmarking")


@dataclass(slots=True)
class Benchmarks:
    """Performs `Benchmark` effects; one per node."""

    interpreters: Mapping[str, Path] = field(default_factory=dict)
    """Of runtimes: where one is called `torch` or `cupy`, it drives the cards."""
    _children: dict[str, trio.MemorySendChannel[Benchmark]] = field(default_factory=dict)
    _checks: trio.Lock = field(default_factory=trio.Lock)

    def begin(self, work: Benchmark, spawn: Spawn, give: Give) -> None:
        """Start a step; its `Benched` goes to `give`."""
        match work.step:
            case "ready":
                send, receive = trio.open_memory_channel[Benchmark](4)
                self._children[work.task] = send
                spawn(partial(self._live, work, receive, give))
            case "check":
                spawn(partial(self._check, work, give))
            case "end":
                if channel := self._children.pop(work.task, None):
                    channel.close()
            case _:
                channel = self._children.get(work.task)
                if channel is None:
                    give(Benched(work.task, work.step, "unable"))
                else:
                    channel.send_nowait(work)

    def command(self, kind: str) -> list[str]:
        """How the child starts, in a checkout, a wheel or frozen."""
        other = next((self.interpreters[name] for name in ("torch", "cupy") if name in self.interpreters), None)
        if kind == "gpu" and other is not None:
            return [str(other), "-P", "-m", "node.benchmark_child"]
        if getattr(sys, "frozen", False):
            return [sys.executable, CHILD]
        return [sys.executable, "-P", "-m", "node.benchmark_child"]

    async def _live(self, work: Benchmark, steps: trio.MemoryReceiveChannel[Benchmark], give: Give) -> None:
        """One child from its start to its end, whatever comes first."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SHOAL_", "PYTHON"))}
        environment = {**kept, **THREADS, "PYTHONPATH": str(Path(__file__).parents[1])}
        try:
            child = await trio.lowlevel.open_process(
                self.command(work.order.kind), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            log.info("no benchmark: %s", error.strerror)
            self._children.pop(work.task, None)
            give(Benched(work.task, "ready", "unable"))
            return
        try:
            with steps, trio.move_on_after(CHILD_SECONDS):
                await _converse(child, work, steps, give)
        finally:
            kill_group(child.pid)
            self._children.pop(work.task, None)
            with trio.CancelScope(shield=True):
                await child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    await pipe.aclose()

    async def _check(self, work: Benchmark, give: Give) -> None:
        """One at a time and beside the loop: a matrix of 8192 rows is made again."""
        async with self._checks:
            code = await trio.to_thread.run_sync(checked, work)
        give(Benched(work.task, "check", code))


async def _converse(
    child: trio.Process, first: Benchmark, steps: trio.MemoryReceiveChannel[Benchmark], give: Give
) -> None:
    """Every step is a line in, and one or more lines out."""
    assert child.stdin is not None
    assert child.stdout is not None
    order, lines = first.order, _Lines(child.stdout)
    said = {"kind": order.kind, "card": order.card, "size": order.size, "count": order.count}
    try:
        await child.stdin.send_all(json.dumps(said).encode() + b"\n")
        is_ready = await lines.next() == b"ready"
        give(Benched(first.task, "ready", "ok" if is_ready else "unable"))
        async for work in steps:
            if work.step == "multiply":
                await child.stdin.send_all(work.seed.hex().encode() + b"\n")
                root = bytes.fromhex((await lines.next()).decode("ascii"))
                give(Benched(work.task, "multiply", "ok" if len(root) == 32 else "unable", Digest(root)))
            elif work.step == "open":
                await child.stdin.send_all(work.beacon.hex().encode() + b"\n")
                rows = [_row(await lines.next()) for _ in range(min(ROWS_OPENED, order.size * order.count))]
                give(Benched(work.task, "open", "ok", rows=tuple(rows)))
    except (trio.BrokenResourceError, ValueError):
        log.info("the benchmark's child ended early")
        give(Benched(first.task, "multiply", "unable"))


@dataclass(slots=True)
class _Lines:
    """Lines of a child, bounded."""

    stream: trio.abc.ReceiveStream
    kept: bytearray = field(default_factory=bytearray)

    async def next(self) -> bytes:
        """Without its end; empty when the child is gone. Raises ValueError when it is too long."""
        while (end := self.kept.find(b"\n")) < 0:
            if len(self.kept) > LINE_BYTES_MAX:
                raise ValueError("a line without end")
            more = await self.stream.receive_some(65_536)
            if not more:
                return b""
            self.kept += more
        line = bytes(self.kept[:end])
        del self.kept[: end + 1]
        return line


def _row(line: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    row, _, path = line.decode("ascii").partition(" ")
    nodes = bytes.fromhex(path)
    return bytes.fromhex(row), tuple(nodes[at : at + 32] for at in range(0, len(nodes), 32))


def checked(work: Benchmark) -> str:
    """`ok`, or the code for which another's rows are refused."""
    order = work.order
    if any(len(row) != 4 * order.size for row, _ in work.rows):
        return "bad_path"
    opened: list[tuple[Int32, tuple[bytes, ...]]] = [
        (np.frombuffer(row, "<i4").astype(np.int32), path) for row, path in work.rows
    ]
    try:
        check(Challenge(work.seed, order.size, order.count), work.root, work.beacon, opened, 0, 0)
    except Refused as error:
        return error.code
    return "ok"


# ── wiring ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Wired:
    """Both machines of a node."""

    issuer: Issuer
    answerer: Answerer

    @property
    def listed(self) -> list[Machine]:
        """For the peer."""
        return [self.issuer, self.answerer]


def wire_benchmarks(
    me: PeerId, machines: Machines, validators: tuple[PeerId, ...], rtt: Callable[[PeerId], int | None], per_hour: int
) -> Wired:
    """`per_hour`: benchmarks that this node asks for; 0: none. It answers in any case, where it offers slots."""

    stewards, counted = set[bytes](), 0

    def is_issuer(peer: PeerId) -> bool:
        """Who judges, or has carried a job for money: names without either are free, and could use up the hour."""
        nonlocal counted
        bygone, escrows = machines.ledger.bygone, machines.ledger.escrows
        opened = len(bygone) + len(escrows)
        if counted != opened:  # Strangers may ask as often as they like: most of their questions cost nothing.
            stewards.update(past.steward for past in bygone.values())
            stewards.update(escrow.steward for escrow in escrows.values())
            counted = opened
        return peer in validators or peer in stewards

    def offers(now: Micros) -> Mapping[PeerId, Offer]:
        return machines.offers.offers(now) if is_issuer(me) else {}

    def is_busy() -> bool:
        is_working = machines.provider.running > 0 or bool(machines.standby.jobs)
        return is_working or os.getloadavg()[0] > cpu_count()

    return Wired(
        Issuer(me, offers, rtt, entropy.dice(), per_hour),
        Answerer(machines.maker.offer, is_busy, is_issuer, lambda peer: peer in validators),
    )
