"""What machines ask to be computed: fetches, runs, snapshots, parity, proofs. Each ends as a completion."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio

from node.attester import Attester
from node.benchmarking import Benchmarks
from node.blobs import BlobStore
from node.protection import encoding
from node.proving.evidence import scored
from node.proving.examining import Examiner
from node.proving.program import is_check, states
from node.runner import Runner
from node.transport import Transport
from node.volumes.shelf import bring_trees
from protocol import wire
from protocol.completions import Completion, Encoded, Fetched, FetchFailed, Proved, RunDone, RunLog, RunStarted
from protocol.effects import (
    Attest,
    Benchmark,
    Cut,
    Encode,
    Examine,
    Fetch,
    Forget,
    LetGo,
    Park,
    Prove,
    Run,
    Score,
    Stop,
    Unpark,
)
from protocol.errors import ShoalError
from protocol.jobspec import ZERO_DIGEST
from protocol.units import Digest, PeerId
from storage.erasure import ErasureCode

log = logging.getLogger("shoal.work")

OUTPUT_BYTES_MAX: Final = 1 << 30
"""Bytes of one earlier chunk's output that a reduce step may read."""

ENCODINGS_MAX: Final = 2
"""Packs encoded at once: each takes a core and reads a quarter of a gigabyte."""

Work = Fetch | Run | Stop | Park | Unpark | Cut | Encode | Prove | Forget | Score | Benchmark | Attest | Examine | LetGo
Spawn = Callable[..., None]
"""Start an async function as a task of the driver."""


class Works:
    """Performs every kind of work; one per driver."""

    def __init__(
        self,
        me: PeerId,
        transport: Transport,
        blobs: BlobStore,
        runner: Runner,
        erasure: ErasureCode,
        benchmarks: Benchmarks | None = None,
        attester: Attester | None = None,
    ) -> None:
        self._me = me
        self._transport = transport
        self._blobs = blobs
        self._runner = runner
        self._erasure = erasure
        self._benchmarks = benchmarks or Benchmarks()
        self._attester = attester or Attester(None)
        self.give: Callable[[Completion], None]
        """Where completions go: the driver's, once there is one."""
        self.examiner: Examiner
        """What opens snapshots for a steward; the node's assembly sets it."""
        self._fetching: set[tuple[Digest, bool]] = set()
        self._encodings = trio.CapacityLimiter(ENCODINGS_MAX)
        self._comparisons = trio.Lock()

    def begin(self, work: Work, spawn: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
        """Start it; what takes no time is done at once. `spawn` runs an async function beside the caller."""
        match work:
            case Fetch() if (work.digest, work.is_output) not in self._fetching:
                self._fetching.add((work.digest, work.is_output))
                spawn(functools.partial(self._fetch, work))
            case Fetch():
                pass  # Its end answers both.
            case Run():
                spawn(functools.partial(self._run, work))
            case Stop(task):
                self._runner.stop(task)
                self.examiner.stop(task)
            case Park(run):
                spawn(functools.partial(self._park, run))
            case Unpark(task):
                self._runner.unpark(task)
            case Cut():
                self._runner.cut(work, self.give)
            case Encode(pack):
                spawn(functools.partial(self._encode, Encode(pack)))
            case Prove(peer, challenge):
                proof = encoding.prove(challenge, self._blobs)
                self.give(Proved(peer, Digest(challenge.shard), challenge.nonce, proof))
            case Forget(digest) if self._runner.retention.keeps(digest):
                self._runner.retention.release(digest)
            case Forget(digest):
                self._blobs.remove(digest)
            case Examine():
                spawn(functools.partial(self.examiner.examine, work, lambda done: self.give(done)))
            case LetGo(shards):
                self.examiner.drop(shards)
            case Attest():
                spawn(functools.partial(self._attest, work))
            case Score():
                spawn(functools.partial(self._score, work))
            case Benchmark():
                self._benchmarks.begin(work, spawn, self.give)

    async def shard(self, digest: Digest, size: int, sources: tuple[PeerId, ...]) -> None:
        """Bring one shard of a snapshot here."""
        await self._bring(Fetch(digest, size, sources))

    async def _fetch(self, work: Fetch) -> None:
        try:
            await self._bring(work)
        except ShoalError as error:
            self._fetching.discard((work.digest, work.is_output))
            self.give(FetchFailed(work.digest, error.detail))
        else:
            self._fetching.discard((work.digest, work.is_output))
            self.give(Fetched(work.digest, self._blobs.size(work.digest)))

    async def _bring(self, work: Fetch, job: bytes = b"") -> None:
        sources = tuple(dict.fromkeys(peer for peer in work.sources if peer != self._me))
        await self._transport.fetch(work.digest, work.size_max, sources, work.is_output, job)

    async def _inputs(self, work: Run) -> None:
        job = wire.digest(wire.encode(work.spec))
        for file in work.spec.files:
            await self._bring(Fetch(Digest(file.digest), file.size, work.sources), job)
        await bring_trees(
            work.spec, self._blobs, lambda digest, size: self._bring(Fetch(digest, size, work.sources), job)
        )
        for output in work.outputs:
            await self._bring(Fetch(output, OUTPUT_BYTES_MAX, work.sources, is_output=True), job)
        if is_check(work):
            await self._bring(Fetch(work.result, work.spec.resources.disk_bytes, work.sources, is_output=True), job)
        for leaf in states(work):
            await self._bring(Fetch(Digest(leaf.state), leaf.state_bytes, work.sources), job)

    async def _run(self, work: Run) -> None:
        """Inputs first, all of them; then the sandbox. States that came for a replay stay as long as its results."""
        brought = [digest for leaf in states(work) if not self._blobs.has(digest := Digest(leaf.state))]
        try:
            await self._inputs(work)
        except ShoalError as error:
            log.warning("%s has no inputs: %s", work.task, error.detail)
            self._drop(brought)
            self.give(RunDone(work.task, "inputs", -1, ZERO_DIGEST, 0, 0.0, error.detail))
            return
        done = await self._runner.run(
            work,
            lambda lines: self.give(RunLog(work.task, lines)),
            lambda executor: self.give(RunStarted(work.task, executor)),
            self.give,
        )
        if done.output != ZERO_DIGEST and brought:
            self._runner.retention.keep(done.output, brought)
        else:
            self._drop(brought)
        self.give(done)

    def _drop(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            self._blobs.remove(digest)

    async def _park(self, work: Run) -> None:
        """The same, as far as the first loop; what goes wrong here goes wrong before it matters."""
        try:
            await self._inputs(work)
        except ShoalError as error:
            self.give(RunDone(work.task, "inputs", -1, ZERO_DIGEST, 0, 0.0, error.detail))
            return
        await self._runner.park(work, self.give)

    async def _attest(self, work: Attest) -> None:
        self.give(await self._attester.attest(work))

    async def _score(self, work: Score) -> None:
        """One at a time: a comparison may take gigabytes of address space."""
        async with self._comparisons:
            self.give(await scored(work, self._blobs, self._bring))

    async def _encode(self, work: Encode) -> None:
        code = ""
        async with self._encodings:
            try:
                await encoding.encode(work.pack, self._blobs, self._erasure)
            except ShoalError as error:
                log.warning("no parity: %s", error.detail)
                code = error.code
        self.give(Encoded(Digest(work.pack.shards[0]), code))
