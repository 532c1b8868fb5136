"""The owner wants the machine back: every running lease is handed over with a snapshot, or given back. Sans-IO.

cutting → spreading → proposed → handed, with the task standing still from the cut on, so that no step is lost. What
has not got there when the notice is over is given back: the chunk then goes on from what was durable, and nobody is
paid. Spec: specs/28-recovery.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from protocol import operations, wire
from protocol.completions import Completion, RunDone, Sealed
from protocol.effects import Effect, Emit, LeaseKey, Send, Wake
from protocol.handover import HandoverAnswer, HandoverProposal, done_share, shown_share
from protocol.identity import Identity, peer_text
from protocol.ledger import Ledger
from protocol.ledger_client import LedgerClient, Ordered
from protocol.messages import Message
from protocol.operations import Handover, Surrender
from protocol.provider_lease import Lease
from protocol.snapshots import Manifest
from protocol.units import SECOND, Digest, Micros, PeerId

NOTICE: Final = Micros(10 * SECOND)
"""Time that running work gets to leave, µs, unless the owner says another (features N7)."""

PROPOSE_AGAIN: Final = Micros(500_000)
"""Microseconds until a proposal is repeated that was not answered, or came before its snapshot: several round trips."""

FAILURES_MAX: Final = 2
"""Snapshots in a row that may fail: the first may have been under way before anybody wanted the machine back."""

Phase = Literal["waiting", "cutting", "spreading", "proposed", "handed", "given_back", "finished"]

OVER: Final[frozenset[Phase]] = frozenset(("handed", "given_back", "finished"))
"""Phases after which the machine owes nobody anything."""


class Hands(Protocol):
    """What is asked of the machines that run and protect the leases."""

    def give_back(self, key: LeaseKey, why: str, now: Micros) -> list[Effect]:
        """Stop its task and surrender it (the provider); nothing when it is over already."""
        ...

    def cut(self, task: str, now: Micros) -> list[Effect]:
        """A snapshot at which the task then stands still (the protector); after one that is under way."""
        ...


@dataclass(slots=True)
class Leaving:
    """One lease on its way out."""

    lease: Lease
    deadline: Micros
    phase: Phase
    reason: str = ""
    failures: int = 0
    durable: Manifest | None = None
    """The snapshot at which the task stands, once it is durable."""
    step: int = 0
    done_ppm: int = 0
    share: int = 0
    """Smallest units that wait for the chunk's end, commission included."""
    to: PeerId | None = None
    op: Digest | None = None
    asked: Micros = Micros(0)


class Reclaim:
    """Gives a host back to its owner."""

    accepts: tuple[type, ...] = (Sealed, RunDone, HandoverAnswer)

    def __init__(
        self, identity: Identity, network: str, client: LedgerClient, ledger: Callable[[], Ledger], hands: Hands
    ) -> None:
        self._identity = identity
        self._network = network
        self._client = client
        self._ledger = ledger
        self._hands = hands
        self.leaving: dict[LeaseKey, Leaving] = {}
        """Of the last reclaim; kept after its end, for people."""

    @property
    def is_over(self) -> bool:
        """Whether every lease is out."""
        return all(item.phase in OVER for item in self.leaving.values())

    def begin(self, leases: Iterable[Lease], notice: Micros, now: Micros, may_finish: bool = True) -> list[Effect]:
        """Let go of these leases within `notice`. What already leaves gets the earlier of both deadlines.

        `may_finish`: what takes no snapshots may use the notice to end by itself; else it is given back now."""
        deadline = Micros(now + notice)
        if self.is_over:
            self.leaving = {}
        effects: list[Effect] = [Wake(deadline, self)]
        for lease in leases:
            known = self.leaving.get(lease.key)
            if known is not None:
                known.deadline = min(known.deadline, deadline)
            elif lease.phase == "running":
                effects += self._leave(lease, deadline, may_finish, now)
            elif lease.phase in ("countersigned", "waiting"):
                self.leaving[lease.key] = item = Leaving(lease, deadline, "waiting")
                effects += self._give_back(item, "it had not begun", now)
        return effects

    def _leave(self, lease: Lease, deadline: Micros, may_finish: bool, now: Micros) -> list[Effect]:
        if not (lease.secret and lease.is_started):
            reason = "no snapshots are taken of it" if lease.is_started else "it was fetching its inputs"
            self.leaving[lease.key] = item = Leaving(lease, deadline, "waiting", reason, to=lease.standby)
            return [self._say(item)] if may_finish else self._give_back(item, reason, now)
        self.leaving[lease.key] = item = Leaving(lease, deadline, "cutting", to=lease.standby)
        return [*self._hands.cut(lease.task, now), self._say(item)]

    # ── what happens on the way ──────────────────────────────────────────────────────────────────────────────────────
    def receive(self, sender: PeerId, message: Message | Completion | HandoverAnswer, now: Micros) -> list[Effect]:
        match message:
            case HandoverAnswer():
                return self._answered(sender, message)
            case Sealed(task=task, step=step):
                item = self._by_task(task)
                if item is None or item.phase != "cutting":
                    return []
                item.phase, item.step = "spreading", step
                return [self._say(item)]
            case RunDone():
                item = self._by_task(message.task)
                return self._end(item, "finished", message.reason) if item is not None else []
            case _:
                raise AssertionError(f"{type(message).__name__} is not for the reclaim")

    def durable(self, lease: Lease, manifest: Manifest, is_held: bool, now: Micros) -> list[Effect]:
        """A snapshot is durable, and its notice is on the way to the steward (the protector tells its listeners).

        One after which the task went on is not what is handed over."""
        item = self.leaving.get(lease.key)
        if item is None or item.phase in OVER or not is_held:
            return []
        item.durable = manifest
        return self._propose(item, now)

    def failed(self, lease: Lease, reason: str, now: Micros) -> list[Effect]:
        """No snapshot came of it, or it did not become durable (the protector tells): once more, then it is over."""
        item = self.leaving.get(lease.key)
        if item is None or item.phase not in ("cutting", "spreading"):
            return []
        item.failures += 1
        item.phase, item.reason = "cutting", f"no snapshot: {reason}"
        if item.failures < FAILURES_MAX:
            return self._hands.cut(lease.task, now)
        return self._give_back(item, item.reason, now)

    def _propose(self, item: Leaving, now: Micros) -> list[Effect]:
        """Ask the steward, once the snapshot at which the task stands is durable and the own ledger has the lease."""
        if item.phase in OVER or item.durable is None:
            return []
        lease, manifest = item.lease, item.durable
        escrow = self._ledger().escrows.get(lease.assign.escrow)
        known = escrow.chunks.get(lease.assign.chunk) if escrow is not None else None
        item.asked = now
        if known is None or known.assign != lease.op:  # Not yet: its receipt came before the block did.
            return [Wake(Micros(now + PROPOSE_AGAIN), self)]
        if item.phase != "proposed":
            elapsed = Micros(self._client.ledger_now(now) - known.assigned_at)
            before = known.done_ppm
            item.step = manifest.step
            shown = shown_share(manifest.step, lease.units)
            item.done_ppm = done_share(manifest.progress_ppm, before, elapsed, lease.spec.estimate, shown)
            item.share = operations.handed_share(lease.assign.price, before, item.done_ppm)
            item.phase, item.reason = "proposed", ""
        operation = Handover(*lease.key, item.done_ppm, item.step, wire.digest(wire.encode(manifest)))
        signed = operations.signed_op(self._network, operation, self._identity)
        item.op = signed.op_id
        again = Wake(Micros(now + PROPOSE_AGAIN), self)
        return [Send(lease.steward, HandoverProposal(signed)), self._say(item), again]

    def _answered(self, sender: PeerId, message: HandoverAnswer) -> list[Effect]:
        item = self.leaving.get((message.escrow, message.chunk, message.epoch))
        if item is None or item.lease.steward != sender or item.phase != "proposed":
            return []
        item.reason = message.code
        if message.to:
            item.to = PeerId(message.to[0])
        return [self._say(item)] if message.code else []

    def ordered(self, event: Ordered, now: Micros) -> list[Effect]:
        """The ledger decided: handed over, or given back, whichever came first."""
        operation = event.operation
        if not isinstance(operation, Handover | Surrender) or not event.is_applied:
            return []
        item = self.leaving.get((operation.escrow, operation.chunk, operation.epoch))
        if item is None or item.phase == "handed":
            return []
        if isinstance(operation, Handover):
            return self._end(item, "handed", "")
        return self._end(item, "given_back", item.reason or operation.reason)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def tick(self, now: Micros) -> list[Effect]:
        """Repeat what was not answered; give back what the notice is over for."""
        effects: list[Effect] = []
        for item in list(self.leaving.values()):
            if item.phase in OVER:
                continue
            if now >= item.deadline:
                effects += self._give_back(item, item.reason or f"the notice ended while {item.phase}", now)
            elif item.durable is not None and now >= item.asked + PROPOSE_AGAIN:
                effects += self._propose(item, now)
        open_items = [item.deadline for item in self.leaving.values() if item.phase not in OVER]
        return [*effects, Wake(min(open_items), self)] if open_items else effects

    def _give_back(self, item: Leaving, why: str, now: Micros) -> list[Effect]:
        given = self._hands.give_back(item.lease.key, f"owner: {why}", now)
        return [*given, *self._end(item, "given_back", why)]

    def _end(self, item: Leaving, phase: Phase, reason: str) -> list[Effect]:
        if item.phase == "handed" or (item.phase in OVER and phase != "handed"):
            return []
        item.phase, item.reason = phase, reason
        if phase != "handed":
            item.share = item.done_ppm = 0
        return [self._say(item)]

    def _by_task(self, task: str) -> Leaving | None:
        found = (item for item in self.leaving.values() if item.lease.task == task)
        return next(found, None)

    def _say(self, item: Leaving) -> Emit:
        return Emit("handover", fields(item))


def fields(item: Leaving) -> dict[str, str | int]:
    """A leaving lease as people see it; money in smallest units."""
    assign = item.lease.assign
    commission = operations.commission(item.share)
    return {
        "job": item.lease.job.hex(),
        "chunk": assign.chunk,
        "epoch": assign.epoch,
        "phase": item.phase,
        "to": peer_text(item.to) if item.to is not None else "",
        "step": item.step,
        "done_ppm": item.done_ppm,
        "price": assign.price,
        "pay": item.share - commission,
        "commission": commission,
        "reason": item.reason,
    }
