"""One lease in its provider's hands, from countersignature to verdict."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Literal, Protocol

from msgspec import UNSET

from protocol import operations, wire
from protocol.completions import NOT_PROTECTED, Guest, Recovering, RunDone
from protocol.effects import Compute, Effect, Emit, LeaseKey, Resume, Run, Send
from protocol.identity import Identity, is_signed_by
from protocol.jobspec import JobSpec
from protocol.ledger import Ledger
from protocol.messages import Beat, LogLines
from protocol.operations import Assign, Claim, SignedOp
from protocol.provider_trace import LeaseTrace
from protocol.snapshots import Protection
from protocol.units import SECOND, Digest, Micros, PeerId

Phase = Literal["countersigned", "waiting", "running", "claiming", "claimed", "revealed"]

LINES_PER_MESSAGE: Final = 16
"""Lines of the longest kind still fit one message."""

TOLD_AGAIN: Final = Micros(30 * SECOND)
"""Microseconds until the steward is told the same about a lease once more: it may have been restarted."""

RESUME_WAIT: Final = Micros(10 * SECOND)
"""Microseconds that what is half done waits for a slot at most: as long as other peers rest who have declined it."""

WORDS_CHARS_MAX: Final = 256
"""Characters of a reason: what one message carries."""

_BEATS: Final[Mapping[Phase, Literal["starting", "claiming", "revealing"]]] = MappingProxyType(
    {
        "countersigned": "starting",
        "waiting": "starting",
        "claiming": "claiming",
        "claimed": "claiming",
        "revealed": "revealing",
    }
)
"""What a beat calls each phase; a running lease is fetching until its sandbox starts."""


@dataclass(slots=True)
class Words:
    """Why a chunk is not protected, by who says so, and how well its newest snapshot is kept."""

    hook: str = ""
    """Why no snapshots of its memory are taken."""
    rehearsal: str = ""
    """How a dry restore differed."""
    custody: str = ""
    """Why the last snapshot did not become durable."""
    kept: str = ""
    told: tuple[str, str] = ("", "")
    told_at: Micros = Micros(0)

    @property
    def now(self) -> tuple[str, str]:
        """Reason and whereabouts, short enough for a message."""
        said = [words for words in (self.hook, self.rehearsal) if words and words not in self.custody]
        said += [self.custody] if self.custody else []
        return "; ".join(said)[:WORDS_CHARS_MAX], self.kept[:WORDS_CHARS_MAX]


@dataclass(slots=True)
class Lease:
    """What was promised, and how far it is."""

    op: Digest
    assign: Assign
    job: bytes
    steward: PeerId
    renter: PeerId
    spec: JobSpec
    outputs: tuple[Digest, ...]
    sources: tuple[PeerId, ...]
    phase: Phase
    since: Micros
    standby: PeerId | None = None
    secret: bytes = b""
    """Of which the keys of its snapshots are made; empty: it is not protected."""
    resume: Resume | None = None
    is_back: bool = False
    """Whether its program stands where the snapshot was taken that it began from."""
    went_on: bool = False
    """Whether it has made a step beyond that."""
    is_started: bool = False
    is_unwanted: bool = False
    """The steward cancelled it, or the owner wants the machine back."""
    beats: int = 0
    lines: int = 0
    step: int = 0
    durable_step: int = 0
    """The step of the newest durable snapshot."""
    words: Words = field(default_factory=Words)
    """What its renter hears of its protection."""
    result: RunDone | None = None
    """What came out, while the job's own check is run over it."""
    output: Digest = Digest(b"")
    output_bytes: int = 0
    trace: LeaseTrace | None = None
    """Of a chunk with units, once it is computed."""

    @property
    def key(self) -> LeaseKey:
        """How the ledger names it."""
        return self.assign.escrow, self.assign.chunk, self.assign.epoch

    @property
    def is_at_work(self) -> bool:
        """Whether it takes a slot, or waits for one."""
        return self.phase in ("countersigned", "waiting", "running")

    @property
    def task(self) -> str:
        """The name under which its execution runs."""
        return f"{self.assign.escrow.hex()[:16]}-{self.assign.chunk}-{self.assign.epoch}"

    def waits_in_vain(self, now: Micros) -> bool:
        """Whether it is half done, and the slot that was to come free for it has not."""
        return self.resume is not None and self.phase == "waiting" and now >= self.since + 2 * RESUME_WAIT

    def begin(self, now: Micros) -> list[Effect]:
        """Its slot is free: execute it."""
        self.phase, self.since = "running", now
        return [Compute(self.run()), *self._recovery("leased", now)]

    def run(self) -> Run:
        """The order to execute it."""
        is_protected = bool(self.secret)
        return Run(
            self.task,
            self.spec,
            self.assign.chunk,
            self.outputs,
            self.sources,
            self.renter,
            self.key if is_protected else None,
            self.secret,
            self.resume,
        )

    def checking(self, done: RunDone) -> list[Effect]:
        """Before a result is claimed the job's own check is run over it: one that no result passes is the job's fault,
        and nobody is to be slashed for it. Empty where there is no check, or it has just been passed."""
        if not self.spec.is_checked(self.assign.chunk) or self.result is not None:
            return []
        self.result = done
        return [Compute(replace(self.run(), lease=None, secret=b"", resume=None, result=done.output))]

    def beat(self) -> Beat:
        """A word to a watcher: alive, and this far."""
        running: Literal["running", "fetching"] = "running" if self.is_started else "fetching"
        phase = running if self.phase == "running" else _BEATS[self.phase]
        return Beat(*self.key, self.beats, phase, step=self.step, snapshot=self.durable_step)

    def heard(self, guest: Guest | Recovering, now: Micros) -> list[Effect]:
        """Its hook said how far it is, and how it is."""
        if isinstance(guest, Recovering):
            return self._recovery(guest.phase, now)
        self.step = max(self.step, guest.steps)
        if guest.text.startswith(NOT_PROTECTED):
            self.words.rehearsal = guest.text.removeprefix(NOT_PROTECTED)
        elif guest.state == "disabled" and guest.text:
            self.words.hook = guest.text
        return [] if self.resume is None else self._back_at(guest.steps, self.resume.manifest.step, now)

    def _back_at(self, steps: int, step: int, now: Micros) -> list[Effect]:
        """Of a lease that began from the snapshot of a step: it is there again, and then beyond. Not told with the next
        beat: the renter waits for it."""
        is_back, went_on = 0 < step <= steps, steps > step
        if (is_back, went_on) <= (self.is_back, self.went_on):
            return []
        told = self._recovery("went_on", now) if went_on else []
        self.is_back, self.went_on = is_back, went_on
        return [*told, Send(self.steward, self.beat())]

    def _recovery(self, phase: str, now: Micros) -> list[Effect]:
        """How far a takeover is, and the time since its lease was ordered."""
        if self.resume is None:
            return []
        manifest = self.resume.manifest
        where: dict[str, str | int] = {
            "job": self.job.hex(), "chunk": self.assign.chunk, "epoch": self.assign.epoch, "phase": phase,
            "us": now - self.since, "from_step": manifest.step, "step": self.step, "bytes": manifest.size,
        }  # fmt: skip
        return [Emit("recovery", where)]

    def tidings(self, now: Micros) -> list[Effect]:
        """How safe it is, for the steward: when that changes, and again after a while, for what was lost on the way."""
        words = self.words
        if not self.secret or (words.now == words.told and (not any(words.told) or now < words.told_at + TOLD_AGAIN)):
            return []
        words.told, words.told_at = words.now, now
        return [Send(self.steward, Protection(self.job, self.assign.chunk, self.assign.epoch, *words.told))]

    @property
    def units(self) -> int:
        """Units of this step; the reduce step has none."""
        return self.spec.units_of(self.assign.chunk)

    def claim(self, provider: Identity) -> Claim:
        """The claim of what it has put out, under seal."""
        sealed = operations.seal(provider.peer, self.salt(provider), self.output)
        if self.trace is None:
            return Claim(*self.key, sealed)
        return Claim(
            *self.key, sealed, trace=self.trace.root, units=self.trace.units, inherited=self.trace.inherited or UNSET
        )

    def said(self, lines: tuple[str, ...]) -> list[Effect]:
        """Lines of its log for the steward, numbered."""
        first, self.lines = self.lines, self.lines + len(lines)
        where = (self.job, self.assign.chunk, self.assign.epoch)
        starts = range(0, len(lines), LINES_PER_MESSAGE)
        return [
            Send(self.steward, LogLines(*where, first + start, lines[start : start + LINES_PER_MESSAGE]))
            for start in starts
        ]

    def salt(self, provider: Identity) -> bytes:
        """Secret until revealed, and the same after a restart: derived from the seed, never stored."""
        place = f"{self.assign.escrow.hex()}/{self.assign.chunk}/{self.assign.epoch}".encode()
        return hashlib.sha256(b"shoal/1\0salt\0" + provider.seed + place).digest()

    def misled(self, ledger: Ledger) -> str:
        """How the steward's inputs differ from the ledger's: claiming then would make us look like the liar."""
        escrow = ledger.escrows.get(self.assign.escrow)
        if escrow is None:
            return ""
        if escrow.spec != wire.digest(wire.encode(self.spec)):
            return "inputs: the steward's specification is not the escrow's"
        accepted = [escrow.chunks[index].output for index in range(len(self.outputs)) if index in escrow.chunks]
        if self.outputs and accepted != list(self.outputs):
            return "inputs: the steward's outputs are not the accepted ones"
        return ""

    def earning(self, outcome: str, code: str, time: int) -> dict[str, str | int]:
        """The line of its owner's account, once the ledger has judged."""
        assign, commission = self.assign, operations.commission(self.assign.price)
        is_paid = outcome == "accept"
        return {
            "time": time,
            "job": self.job.hex(),
            "escrow": assign.escrow.hex(),
            "chunk": assign.chunk,
            "epoch": assign.epoch,
            "price": assign.price,
            "paid": assign.price - commission if is_paid else 0,
            "commission": commission if is_paid else 0,
            "slashed": operations.slash(assign.price, assign.collateral, outcome),
            "outcome": outcome,
            "code": code,
            "expected": self.spec.estimate,
        }


class Guard(Protocol):
    """Who protects running leases; the provider tells it when one begins and ends."""

    def began(self, lease: Lease, now: Micros) -> list[Effect]:
        """Its sandbox runs."""
        ...

    def ended(self, lease: Lease, now: Micros) -> list[Effect]:
        """It runs no more. Called at most once after `began`, whatever the reason."""
        ...


class Guards:
    """Every guard of a provider, each told once of a protected lease that begins, and once that it has ended."""

    def __init__(self) -> None:
        self._guards: list[Guard] = []
        self._guarded: set[str] = set()

    def append(self, guard: Guard) -> None:
        """One more."""
        self._guards.append(guard)

    def began(self, lease: Lease, now: Micros) -> list[Effect]:
        """The sandbox of a lease runs."""
        if not lease.secret or lease.task in self._guarded:
            return []
        self._guarded.add(lease.task)
        return [effect for guard in self._guards for effect in guard.began(lease, now)]

    def ended(self, lease: Lease, now: Micros) -> list[Effect]:
        """It runs no more, whatever the reason; one that was never guarded is none of theirs."""
        if lease.task not in self._guarded:
            return []
        self._guarded.discard(lease.task)
        return [effect for guard in self._guards for effect in guard.ended(lease, now)]


def is_offered_by(steward: PeerId, network: str, signed: SignedOp) -> bool:
    """Whether a lease carries its steward's signature."""
    data = wire.signing_bytes(network, "op", signed.body)
    return any(item.signer == steward and is_signed_by(steward, data, item.signature) for item in signed.signatures)


def is_behind_longer(spec: JobSpec, leases: Iterable[Lease], slots: int) -> bool:
    """Whether every slot is taken for more than twice as long as this work needs: it would wait here for minutes while
    others are idle."""
    return sum(lease.is_at_work and lease.spec.estimate > 2 * spec.estimate for lease in leases) >= slots


def comes_free(leases: Iterable[Lease], slots: int, now: Micros) -> bool:
    """Whether a slot is free, or will be within RESUME_WAIT by the estimate of what runs there, for what is half done:
    it goes before all that waits, but for its like. What outruns its estimate may run for ever."""
    taken = 0
    for lease in leases:
        is_ending = lease.phase == "running" and abs(lease.since + lease.spec.estimate - now) < RESUME_WAIT
        is_first = lease.phase in ("countersigned", "waiting") and lease.resume is not None
        taken += is_first or (lease.phase == "running" and not is_ending)
    return taken < slots
