"""What every run measures: how jobs fare, who is paid, how fast the ledger answers, how soon lost work goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.effects import Effect, Send
from protocol.job_record import ChunkRecord, JobRecord
from protocol.messages import Receipts, Submit
from protocol.units import CREDIT, SECOND, PeerId
from simulations.clock import START
from simulations.observer import Observer
from simulations.scenario import NS

if TYPE_CHECKING:
    from simulations.simpeer import SimPeer
    from simulations.world import World

MINUTE_NS = 60 * NS
"""Between two points of a time line, ns."""


class Meter(Observer):
    """Samples into the world's recorder. Units: s and credits."""

    def __init__(self) -> None:
        self._world: World
        self._submitted: dict[bytes, int] = {}
        self._killed: dict[bytes, list[int]] = {}

    def started(self, world: World) -> None:
        self._world = world

    def moved(self, peer: SimPeer, is_up: bool, now: int) -> None:
        if not is_up:
            self._killed.setdefault(peer.id, []).append(now)

    def handled(self, peer: SimPeer, cause: object, effects: list[Effect], now: int) -> None:
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Submit):
                for signed in effect.message.operations:
                    self._submitted.setdefault(signed.op_id, now)
        if isinstance(cause, Receipts):
            for receipt in cause.receipts:
                since = self._submitted.pop(receipt.outcome.op, None)
                if since is not None:
                    self._world.recorder.sample("ledger/finality", (now - since) / NS, now, peer.index)

    def second(self, now: int) -> None:
        if now % MINUTE_NS:
            return
        world = self._world
        world.recorder.sample("peers/up", sum(peer.is_up for peer in world.peers), now)
        records = [record for _, record in self._records()]
        world.recorder.sample("jobs/running", sum(not record.is_final for record in records), now)
        world.recorder.sample("jobs/done", sum(record.state == "settled" for record in records), now)
        world.recorder.sample("chunks/done", sum(chunk.is_done for record in records for chunk in record.chunks), now)

    def finished(self, now: int) -> None:
        world = self._world
        for peer, record in self._records():
            world.recorder.count(f"jobs/{record.state}")
            if record.state == "settled":
                makespan = (record.finished - record.confirmed) / SECOND
                ended = (record.finished - START) * 1_000
                world.recorder.sample("job/makespan", makespan, ended, peer.index)
                world.recorder.sample("job/chunks", len(record.chunks), ended, peer.index)
            for chunk in record.chunks:
                self._chunk(peer, record, chunk, now)
        self._pay(now)

    def _chunk(self, peer: SimPeer, record: JobRecord, chunk: ChunkRecord, now: int) -> None:
        sample = self._world.recorder.sample
        for attempt, after in zip(chunk.attempts, [*chunk.attempts[1:], None], strict=False):
            if attempt is chunk.attempts[0]:
                sample("chunk/wait", (attempt.started - record.confirmed) / SECOND, now, peer.index)
            if attempt.ended and chunk.is_done and after is None:
                run = (attempt.ended - attempt.started) / SECOND
                sample("chunk/run", run, (attempt.ended - START) * 1_000, peer.index)
            if attempt.end == "dead" and after is not None:
                lost = self._lost(PeerId(attempt.provider), after.started)
                if lost >= 0:
                    sample("job/recovery", (after.started - START) / SECOND - lost / NS, now, peer.index)

    def _lost(self, provider: PeerId, before: int) -> int:
        """When the provider was last killed before a local time (µs), ns; -1: it never was, it only seemed dead."""
        times = [at for at in self._killed.get(provider, ()) if at // 1_000 + START <= before]
        return max(times, default=-1)

    def _pay(self, now: int) -> None:
        """What providers and those who cheat have earned by the end, credits each."""
        world = self._world
        judge = next((peer for peer in world.peers if peer.role == "validator" and peer.boots), None)
        if judge is None:
            return
        ledger = judge.machines.ledger
        for peer in world.peers:
            if peer.role == "provider":
                earned = ledger.available("U", peer.id) / CREDIT
                world.recorder.sample(f"payout/{peer.strategy.name}", earned, now, peer.index)

    def _records(self) -> list[tuple[SimPeer, JobRecord]]:
        """All jobs, by submission, as their stewards see them; of a steward that is down, as it last did."""
        found = []
        for peer, job, _ in self._world.workload.submitted:
            known = peer.machines.steward.jobs.get(job)
            if known is not None:
                found.append((peer, known.record))
        return found
