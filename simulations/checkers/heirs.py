"""Inherited units: nobody pays for units that another signed for, and nobody answers for units that it did not sign.

A second reading of claims and verdicts, held against what hosts really computed. In a world whose units are in no
snapshot it does nothing. Spec: specs/11-verification.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

from protocol.effects import Effect, Send
from protocol.ledger import Ledger
from protocol.messages import PrefixOpened, PrefixRequest
from protocol.operations import Assign, Claim, Inherited, Operation, SignedOp, Verdict
from protocol.prefix import is_prefix_of
from protocol.units import PeerId
from simulations.checkers.chain import Chain
from simulations.checkers.checker import Checker
from simulations.scenario import Check
from simulations.subject import Subject, is_honest
from simulations.tasks import Task

if TYPE_CHECKING:
    from simulations.world import World

ABOUT_UNITS: Final = frozenset(("wrong", "fraud", "severe", "rejected"))
"""Findings that a unit is bad."""

Place = tuple[bytes, int]
"""Escrow and chunk."""

Key = tuple[bytes, int, int]
"""Escrow, chunk and epoch: one lease."""


@dataclass(slots=True)
class Lease:
    """As the chain says it."""

    provider: bytes
    is_judged: bool = False
    words: tuple[Inherited, ...] = ()
    """Those that its claim carries."""


@dataclass(slots=True)
class Findings:
    """What a run has exercised."""

    claims: int = 0
    """With inherited units."""
    blamed: int = 0
    """Verdicts against an earlier lease."""
    unshown: int = 0
    """Heirs that paid because they could not show in time whose units they were: lost, or cut off."""


@dataclass(slots=True)
class _Heard:
    """What one judge knows of whom a claim had its units from."""

    asked: set[Key] = field(default_factory=set)
    answered: set[Key] = field(default_factory=set)


class Heirs(Checker):
    """Watches claims that carry the words of earlier leases, and the verdicts about them."""

    name: ClassVar[Check] = "heirs"

    def __init__(self) -> None:
        super().__init__()
        self.findings = Findings()
        self._chain = Chain(self._apply)
        self._leases: dict[Key, Lease] = {}
        self._heard: dict[int, _Heard] = {}
        self._judged: set[bytes] = set()
        """Peers against whom there is a finding, by themselves or as auditors."""
        self._stakes: dict[PeerId, int] = {}
        """Of everybody, at the start."""
        self._is_on = False

    def started(self, world: World) -> None:
        super().started(world)
        self._world = world
        load = world.scenario.workload.jobs
        self._is_on = load is not None and bool(load.units) and bool(load.state)
        self._by_id = {bytes(peer.identity.peer): peer for peer in self.peers}

    # ── the judges ───────────────────────────────────────────────────────────────────────────────────────────────────
    def handled(self, peer: Subject, cause: object, effects: list[Effect], now: int) -> None:
        if not self._is_on:
            return
        self._chain.handled(peer, effects, now)
        if peer.role != "validator":
            return
        heard = self._heard.setdefault(peer.index, _Heard())
        if type(cause) is PrefixOpened and effects:  # Without effects it came too late, or again.
            assert isinstance(cause, PrefixOpened)
            heard.answered.add((cause.escrow, cause.chunk, cause.epoch))
        for effect in effects:
            if type(effect) is Send and type(effect.message) is PrefixRequest:
                said = effect.message
                heard.asked.add((said.escrow, said.chunk, said.epoch))

    def sent(self, source: int, target: int, message: object, now: int, arrives: int) -> None:
        if self._is_on:
            self._chain.sent(source, now)

    def moved(self, peer: Subject, is_up: bool, now: int) -> None:
        self._chain.moved(peer.index)
        heard = self._heard.get(peer.index)
        if heard is not None:  # It begins its cases again, or goes on with a verdict that it has signed already.
            heard.answered.clear()
            heard.asked.update(key for key, lease in self._leases.items() if lease.words and not lease.is_judged)

    # ── the chain ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _apply(self, op: Operation, signed: SignedOp, time: int, peer: int, now: int) -> None:
        match op:
            case Assign():
                self._leases[op.escrow, op.chunk, op.epoch] = Lease(op.provider)
            case Claim():
                self._claimed(op, peer, now)
            case Verdict():
                self._verdict(op, signed, peer, now)
            case _:
                pass

    def _claimed(self, op: Claim, peer: int, now: int) -> None:
        words, lease = op.inherited or (), self._leases[op.escrow, op.chunk, op.epoch]
        lease.words = words
        for at, word in enumerate(words):
            former = self._leases.get((op.escrow, op.chunk, word.epoch))
            if former is None or word.epoch >= op.epoch or former.is_judged:
                self._broken(op, f"rests on epoch {word.epoch}, which no unjudged lease before it had", peer, now)
            signer, chain = PeerId(former.provider), self._world.genesis.chain
            if not is_prefix_of(chain, signer, op.escrow, op.chunk, word, words[:at]):
                self._broken(op, f"rests on epoch {word.epoch}, whose provider did not sign for it", peer, now)
        self.findings.claims += bool(words)
        task, claimant = self._task(op), self._by_id.get(lease.provider)
        if task is None or task.made is None or claimant is None or not is_honest(claimant):
            return
        inherited = words[-1].units if words else 0
        if inherited != task.first:
            self._broken(op, f"went on at unit {task.first}, and others answer for {inherited} units", peer, now)

    def _verdict(self, op: Verdict, signed: SignedOp, peer: int, now: int) -> None:
        lease, task = self._leases[op.escrow, op.chunk, op.epoch], self._task(op)
        former = self._leases.get((op.escrow, op.chunk, op.blamed or 0))
        lease.is_judged = True
        self._judged |= {op.auditor, *(op.faulted or ()), *(op.agreed or ())}
        if op.blamed:
            self.findings.blamed += 1
            if former is None or all(word.epoch != op.blamed for word in lease.words):
                self._broken(op, f"lays it to epoch {op.blamed}, from which the claim inherits nothing", peer, now)
            self._judged.add(former.provider)
            former.is_judged = True
            maker = f"{op.escrow.hex()[:16]}-{op.chunk}-{op.blamed}"
            if task is not None and task.made is not None and maker not in task.made.bad.values():
                self._broken(op, f"lays {op.outcome} to epoch {op.blamed}, which made no bad unit of it", peer, now)
            return
        if op.outcome == "accept":
            return
        if op.outcome in ABOUT_UNITS and task is not None and task.made is not None and task.first:
            self._accused(op, signed, task, peer, now)
        self._judged.add(lease.provider)

    def _accused(self, op: Verdict, signed: SignedOp, task: Task, peer: int, now: int) -> None:
        """An heir is found guilty: of a unit that it made itself, or because it could not show who made it."""
        assert task.made is not None
        claimant, bad = self._by_id[self._leases[op.escrow, op.chunk, op.epoch].provider], task.made.bad
        if not is_honest(claimant) or any(index >= task.first for index in bad):
            return
        key, said = (op.escrow, op.chunk, op.epoch), f"honest {claimant.name} is found {op.outcome} ({op.code})"
        if not bad:
            self._broken(op, f"{said}, and every unit is good", peer, now)
        for signature in signed.signatures:
            judge = self._by_id.get(signature.signer)
            if judge is None or not is_honest(judge):
                continue
            heard = self._heard.setdefault(judge.index, _Heard())
            if key in heard.answered or key not in heard.asked:
                how = "though it showed whose they are" if key in heard.answered else "and was not asked whose they are"
                self._broken(op, f"{said} for units {sorted(bad)} that it inherited, {how}", judge.index, now)
        self.findings.unshown += 1

    def _task(self, op: Claim | Verdict) -> Task | None:
        """The execution behind a claim; in a world whose jobs take no snapshots they are not kept."""
        name = f"{op.escrow.hex()[:16]}-{op.chunk}-{op.epoch}"
        return self._world.driver.worker.protecting.tasks.get(name)

    # ── the money ────────────────────────────────────────────────────────────────────────────────────────────────────
    def second(self, now: int) -> None:
        if self._is_on and not self._stakes:
            ledger = self._ledger()
            self._stakes = dict(ledger.stakes) if ledger is not None else {}

    def finished(self, now: int) -> None:
        """A provider whose units nobody found bad has lost nothing, whatever it inherited."""
        ledger = self._ledger() if self._is_on else None
        if ledger is None:
            return
        for peer in self.peers:
            who = peer.identity.peer
            if peer.role != "provider" or who in self._judged or not is_honest(peer):
                continue
            lost = self._stakes.get(who, 0) - ledger.stakes.get(who, 0)
            standing = ledger.standings.get(who)
            faults = standing.wrong + standing.severe + standing.rejected if standing is not None else 0
            if lost > 0 or faults:
                self.fail(f"{lost} were taken from {peer.name}, {faults} faults: nobody found any", peer.index, now)

    def _ledger(self) -> Ledger | None:
        """The longest of an honest validator."""
        up = [peer for peer in self.peers if peer.role == "validator" and peer.is_up and is_honest(peer)]
        return max((peer.machines.ledger for peer in up), key=lambda ledger: ledger.height, default=None)

    def _broken(self, op: Claim | Verdict, what: str, peer: int, now: int) -> NoReturn:
        kind = type(op).__name__.lower()
        detail = f"chunk {op.chunk} of escrow {op.escrow.hex()[:8]}: the {kind} of epoch {op.epoch} {what}"
        self.fail(detail, peer, now, op.escrow)
