"""After the faults have stopped everything ends: jobs, escrows, leases, promises, and every replica reaches the tip."""

from __future__ import annotations

from typing import ClassVar, Final

from protocol.identity import peer_text
from protocol.job_record import JobRecord
from protocol.units import SECOND, JobId, Micros
from simulations.checkers.checker import Checker
from simulations.clock import START
from simulations.scenario import Check
from simulations.subject import Subject, is_honest

LAG_MAX: Final = 3
"""Blocks that a healthy replica may be behind: one is announced every 0.2 s, and fetched a round trip later."""

DEAF: Final = Micros(55 * SECOND)
"""A provider whose clock is so far ahead takes every notice for expired (they last a minute): it bids for nothing."""


class Liveness(Checker):
    """Looks once, at the end of the settle phase. Peers that are down then excuse only themselves and their jobs.

    With several validators only replicas are looked at: a judge that was down may draw another auditor than the others,
    their verdicts differ then, and the lease ends 30 minutes later, undecided (docs/validator.md)."""

    name: ClassVar[Check] = "liveness"

    def __init__(self) -> None:
        super().__init__()
        self._now = 0

    def second(self, now: int) -> None:
        self._now = now

    def finished(self, now: int) -> None:
        fault = self.unfinished()
        if fault is not None:
            self.fail(fault[0], fault[1], now, fault[2])

    def unfinished(self) -> tuple[str, int, bytes] | None:
        """The first thing that has not ended: (what, peer, escrow); None when all is quiet."""
        up = [peer for peer in self.peers if peer.is_up and is_honest(peer)]
        validators = [peer for peer in up if peer.role == "validator"]
        if not validators:
            return None
        newest = max(validators, key=lambda peer: peer.machines.replica.height)
        if sum(peer.role == "validator" for peer in self.peers) > 1:
            return self._behind(up, newest)
        return self._behind(up, newest) or self._open(up, newest) or self._at_work(up)

    def _behind(self, up: list[Subject], newest: Subject) -> tuple[str, int, bytes] | None:
        tip = newest.machines.replica.height
        for peer in up:
            height = peer.machines.replica.height
            if height + LAG_MAX < tip:
                return f"{peer.name} holds {height} blocks of {tip}", peer.index, b""
        return None

    def _open(self, up: list[Subject], newest: Subject) -> tuple[str, int, bytes] | None:
        """Jobs and escrows. An escrow whose steward is gone ends with its deadline, a day later."""
        living = {bytes(peer.identity.peer): peer for peer in up}
        for peer in up:
            for job, found in peer.machines.steward.jobs.items():
                record = found.record
                if not record.is_final and not self._is_starved(record, up):
                    waits = ", ".join(f"{chunk.index} {chunk.state}" for chunk in record.chunks if not chunk.is_done)
                    return (
                        f"job {job.hex()[:8]} of {peer.name} is {record.state} ({waits})",
                        peer.index,
                        record.escrow,
                    )
        for key, escrow in newest.machines.ledger.escrows.items():
            steward = living.get(escrow.steward)
            if steward is not None and not escrow.is_closed and not self._is_waiting(steward, escrow.job, up):
                why = f"{escrow.leased} chunks leased" if escrow.leased else "nothing is leased"
                return f"escrow {key.hex()[:8]} of {steward.name} is open, {why}", steward.index, key
        return None

    def _at_work(self, up: list[Subject]) -> tuple[str, int, bytes] | None:
        """Nothing is computed, judged, watched or waited for. What belongs to a steward that is gone may go on."""
        stewards = {bytes(peer.identity.peer) for peer in up}
        for peer in up:
            machines = peer.machines
            if machines.client.undecided:
                return f"{peer.name} waits for {machines.client.undecided} receipts", peer.index, b""
            for (escrow, chunk, epoch), lease in machines.provider.leases.items():
                if lease.steward in stewards:
                    what = f"{peer.name} holds a lease ({lease.phase}) of chunk {chunk} epoch {epoch}"
                    return what, peer.index, escrow
            if machines.judge is not None:
                for (escrow, chunk, epoch), case in machines.judge.cases.items():
                    if case.steward in stewards:
                        state = type(case.state).__name__.lower()
                        return f"{peer.name} judges chunk {chunk} epoch {epoch}: {state}", peer.index, escrow
            for provider in machines.watcher.states(machines.ledger.time):
                return (
                    f"{peer.name} still watches {peer_text(provider)[-6:]}",
                    peer.index,
                    b"",
                )
        return None

    def _is_starved(self, record: JobRecord, up: list[Subject]) -> bool:
        """Whether nobody is left who could work for a job: then it waits for others until its deadline."""
        if not record.is_open or any(chunk.is_leased for chunk in record.chunks):
            return False
        barred = set(record.barred)
        able = [peer for peer in up if peer.role == "provider" and bytes(peer.identity.peer) not in barred]
        true = START + self._now // 1_000
        return all(peer.clock.read(self._now) - true > DEAF for peer in able)

    def _is_waiting(self, steward: Subject, job: bytes, up: list[Subject]) -> bool:
        found = steward.machines.steward.jobs.get(JobId(job))
        return found is not None and self._is_starved(found.record, up)
