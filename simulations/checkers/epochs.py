"""One lease at a time: another, simpler reading of the chain that says which lease holds, against the real one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, NoReturn

import msgspec

from protocol.completions import RunDone
from protocol.effects import Compute, Effect, Run, Stop
from protocol.held import SPOILS
from protocol.messages import Receipts
from protocol.operations import Assign, Claim, Fence, Handover, Operation, Ruling, Settle, SignedOp, Surrender, Verdict
from simulations.checkers.chain import Chain
from simulations.checkers.checker import Checker
from simulations.scenario import NS, Check
from simulations.subject import Subject, is_honest

AFTER_END: Final = 10 * NS
"""Simulated ns for which a provider may go on computing after its own copy of the ledger showed the end of the lease:
its next look, and a little."""

Place = tuple[bytes, int]
"""Escrow and chunk."""

Step = Claim | Surrender | Handover | Fence | Settle | Verdict
"""What happens to a lease."""

_operations: Final[msgspec.msgpack.Decoder[Operation]] = msgspec.msgpack.Decoder(Operation)


@dataclass(slots=True)
class Lease:
    """One lease, as the chain says it."""

    place: Place
    epoch: int
    provider: bytes
    watchers: frozenset[bytes]
    claim_by: int
    verdict_by: int
    is_claimed: bool = False
    ended: str = ""

    def is_live(self, time: int) -> bool:
        """Whether it holds at this ledger time."""
        return not self.ended and time <= (self.verdict_by if self.is_claimed else self.claim_by)

    @property
    def task(self) -> str:
        """The name under which its provider executes it."""
        return f"{self.place[0].hex()[:16]}-{self.place[1]}-{self.epoch}"


class Epochs(Checker):
    """At most one live lease and one commit per chunk; nobody computes without a lease or after seeing its end."""

    name: ClassVar[Check] = "epochs"

    def __init__(self) -> None:
        super().__init__()
        self._chain = Chain(self._apply)
        self._leases: dict[Place, Lease] = {}
        """The newest of each chunk."""
        self._tasks: dict[str, Lease] = {}
        self._committed: dict[Place, int] = {}
        """The epoch whose result was accepted or settled."""
        self._running: dict[int, dict[str, Lease]] = {}
        """What each peer computes."""
        self._over: dict[tuple[int, str], int] = {}
        """(peer, task) -> since when its own ledger says that the lease is over, ns."""
        self._done: dict[Place, int] = {}
        """Share of each chunk that was handed over, ppm."""
        self.verdicts = 0
        self.fences = 0
        self.handovers = 0

    # ── the chain ────────────────────────────────────────────────────────────────────────────────────────────────────
    def handled(self, peer: Subject, cause: object, effects: list[Effect], now: int) -> None:
        self._chain.handled(peer, effects, now)
        for effect in effects:
            if type(effect) is Compute:
                self._compute(peer, effect, now)
        if type(cause) is Receipts:
            assert isinstance(cause, Receipts)
            self._seen(peer, cause, now)
        elif type(cause) is RunDone:
            assert isinstance(cause, RunDone)
            self._running.get(peer.index, {}).pop(cause.task, None)

    def sent(self, source: int, target: int, message: object, now: int, arrives: int) -> None:
        self._chain.sent(source, now)

    def _apply(self, op: Operation, signed: SignedOp, time: int, peer: int, now: int) -> None:
        match op:
            case Assign():
                self._assign(op, time, peer, now)
            case Claim() | Surrender() | Handover() | Fence() | Settle() | Verdict():
                self._step(op, frozenset(item.signer for item in signed.signatures), time, peer, now)
            case Ruling(outcome="overturned"):
                self._overturned(op)
            case _:
                pass

    def _assign(self, op: Assign, time: int, peer: int, now: int) -> None:
        place = (op.escrow, op.chunk)
        before, committed = self._leases.get(place), self._committed.get(place)
        if committed is not None:
            self._broken(op, f"leased again at epoch {op.epoch}, committed at {committed}", peer, now)
        if before is not None and op.epoch <= before.epoch:
            self._broken(op, f"leased at epoch {op.epoch} after epoch {before.epoch}", peer, now)
        if before is not None and before.is_live(time):
            self._broken(op, f"leased at epoch {op.epoch} while epoch {before.epoch} lives", peer, now)
        lease = Lease(place, op.epoch, op.provider, frozenset(op.watchers), op.claim_by, op.verdict_by)
        self._leases[place] = self._tasks[lease.task] = lease

    def _overturned(self, op: Ruling) -> None:
        """A panel found otherwise: what was committed is not, and may be leased again once that is final."""
        place = (op.escrow, op.chunk)
        if op.finding != "accept" and self._committed.get(place) == op.epoch:
            del self._committed[place]
        if op.finding in SPOILS:
            self._done.pop(place, None)

    def _step(
        self,
        op: Step,
        signers: frozenset[bytes],
        time: int,
        peer: int,
        now: int,
    ) -> None:
        what, lease = type(op).__name__, self._leases.get((op.escrow, op.chunk))
        if lease is None or lease.epoch != op.epoch:
            held = "none" if lease is None else f"epoch {lease.epoch}"
            self._broken(op, f"{what} of epoch {op.epoch} applied, but the newest lease is {held}", peer, now)
        if not lease.is_live(time):
            self._broken(op, f"{what} of epoch {op.epoch} after its end ({lease.ended or 'expired'})", peer, now)
        if isinstance(op, Claim | Surrender | Handover | Settle) and lease.provider not in signers:
            self._broken(op, f"{what} of epoch {op.epoch} without its provider's signature", peer, now)
        if isinstance(op, Claim):
            lease.is_claimed = True
            return
        if isinstance(op, Fence):
            self.fences += 1
            said = len(signers & lease.watchers)
            if 2 * said <= len(lease.watchers):
                self._broken(op, f"fenced by {said} of {len(lease.watchers)} watchers", peer, now)
        if isinstance(op, Handover):
            self.handovers += 1
            before = self._done.get(lease.place, 0)
            if op.done_ppm < before:
                self._broken(op, f"handed over at {op.done_ppm} ppm after {before} ppm", peer, now)
            self._done[lease.place] = op.done_ppm
        if isinstance(op, Verdict):
            self.verdicts += 1
            if op.outcome in SPOILS:
                self._done.pop(lease.place, None)
            if not lease.is_claimed:
                self._broken(op, f"judged at epoch {op.epoch}, which nobody claimed", peer, now)
        if isinstance(op, Settle) or (isinstance(op, Verdict) and op.outcome == "accept"):
            if lease.place in self._committed:
                self._broken(op, f"committed at epochs {self._committed[lease.place]} and {op.epoch}", peer, now)
            self._committed[lease.place] = op.epoch
        lease.ended = what.lower()

    def _broken(self, op: Assign | Step, what: str, peer: int, now: int) -> NoReturn:
        self.fail(f"chunk {op.chunk} of escrow {op.escrow.hex()[:8]}: {what}", peer, now, op.escrow)

    # ── the providers ────────────────────────────────────────────────────────────────────────────────────────────────
    def _compute(self, peer: Subject, effect: Compute, now: int) -> None:
        work = effect.work
        if isinstance(work, Stop):
            self._running.get(peer.index, {}).pop(work.task, None)
        if not isinstance(work, Run) or not is_honest(peer) or work.task.startswith(("audit-", "finish-")):
            return
        lease = self._tasks.get(work.task)
        if lease is None or lease.provider != peer.identity.peer:
            whose = "nobody" if lease is None else "another"
            self.fail(f"computes {work.task}, whose lease {whose} holds", peer.index, now)
        for other, tasks in self._running.items():
            if work.task in tasks and other != peer.index:
                self.fail(f"computes {work.task}, and so does peer {other}", peer.index, now, lease.place[0])
        self._running.setdefault(peer.index, {})[work.task] = lease

    def _seen(self, peer: Subject, receipts: Receipts, now: int) -> None:
        """A peer has just been told of these operations."""
        running = self._running.get(peer.index)
        if not running:
            return
        for signed, receipt in zip(receipts.operations, receipts.receipts, strict=True):
            op = _operations.decode(signed.body)
            if receipt.outcome.status != "applied" or not isinstance(
                op, Surrender | Handover | Fence | Settle | Verdict
            ):
                continue
            for task, lease in running.items():
                if lease.place == (op.escrow, op.chunk) and lease.epoch == op.epoch and lease.ended:
                    self.fail(f"computes {task} on, having seen its end ({lease.ended})", peer.index, now, op.escrow)

    def moved(self, peer: Subject, is_up: bool, now: int) -> None:
        self._running.pop(peer.index, None)
        self._chain.moved(peer.index)

    def second(self, now: int) -> None:
        for index, tasks in self._running.items():
            peer = self.peers[index]
            for task, lease in tasks.items():
                if not peer.is_up or not _is_over(peer, lease):
                    continue
                since = self._over.setdefault((index, task), now)
                if now - since > AFTER_END:
                    waited = (now - since) // NS
                    what = f"computes {task} on, {waited} s after its own copy of the ledger showed the end"
                    self.fail(what, index, now, lease.place[0])


def _is_over(peer: Subject, lease: Lease) -> bool:
    """Whether the peer's own copy of the ledger says that the lease has ended."""
    escrow = peer.machines.ledger.escrows.get(lease.place[0])
    known = escrow.chunks.get(lease.place[1]) if escrow is not None else None
    if known is None or known.epoch < lease.epoch:
        return False
    return known.epoch > lease.epoch or known.state in ("free", "paid")
