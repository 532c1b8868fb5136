"""The auditor: executes a chunk again without knowing what came out the first time. Spec: specs/11-verification.md.

A validator asks; specification and inputs are fetched, then the whole chunk runs, or some of its units from opened
states, or what makes output files of an opened last state, or the job's check over an output that is known already.
What came out goes out under seal; it is opened only when the validator has the provider's opening.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec import UNSET
from msgspec.structs import replace

from protocol import operations, wire
from protocol.completions import Completion, Fetched, FetchFailed, RunDone
from protocol.effects import Compute, Effect, Emit, Fetch, Forget, Run, Send, Wake
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.identity import Identity
from protocol.jobspec import ZERO_DIGEST, JobSpec
from protocol.messages import AuditCommit, AuditOpenRequest, AuditRequest, AuditReveal, Message
from protocol.units import HOUR, MIB, MINUTE, SECOND, Digest, Micros, PeerId
from verifier.case import Purpose

QUEUE_MAX: Final = 1024
"""Audits waiting or sealed at one time; a request holds up to 64 KiB of input digests. Beyond, the validator that asked
for most of them first gives way to one that asked for fewer."""

FETCH_TRIES: Final = 3
"""Tries until a specification counts as out of reach."""

FETCH_AGAIN: Final = Micros(2 * SECOND)
"""Microseconds between two tries."""

KEEP: Final = Micros(1 * HOUR)
"""Microseconds for which a sealed result waits to be opened: twice the longest wait of a judge."""

OPENING: Final = Micros(1 * MINUTE)
"""Microseconds after the first opening in which an audit is not begun anew: other validators are about to open it too,
and one that was started again gets the same seal."""

SPEC_BYTES_MAX: Final = 16 * MIB
"""Bytes of an encoded specification."""

OK: Final = "ok"
"""The reason in an `AuditReveal` of an execution that ended well, as in `RunDone`."""

Place = tuple[bytes, int, int]
Key = tuple[bytes, int, int, Purpose]
"""Escrow, chunk, epoch, and what is asked: one chunk may be executed, made output of, and checked."""

PURPOSES: Final[tuple[Purpose, ...]] = ("work", "finish", "check")
"""In the order in which a judge asks."""

TASKS: Final[dict[Purpose, str]] = {"work": "audit", "finish": "finish", "check": "check"}
"""How the names of their executions begin."""

Phase = Literal["fetching", "queued", "running", "sealed", "opened"]

_spec_decoder: Final = wire.decoder(JobSpec)


@dataclass(slots=True)
class Audit:
    """One execution, for every validator that asked for it."""

    request: AuditRequest
    turn: int
    since: Micros
    first: PeerId
    """Who asked before all others."""
    phase: Phase = "fetching"
    askers: set[PeerId] = field(default_factory=set)
    opened_to: set[PeerId] = field(default_factory=set)
    opened_at: Micros = Micros(0)
    tries: int = 1
    again: Micros | None = None
    """When to fetch once more; None while a fetch is under way."""
    spec: JobSpec | None = None
    output: Digest = ZERO_DIGEST
    reason: str = ""

    @property
    def place(self) -> Place:
        return self.request.escrow, self.request.chunk, self.request.epoch

    @property
    def key(self) -> Key:
        return _key(self.request)

    @property
    def task(self) -> str:
        """The name of its execution; a second one of the same chunk has another."""
        kind = TASKS[_purpose(self.request)]
        return f"{kind}-{self.request.escrow.hex()[:16]}-{self.request.chunk}-{self.request.epoch}-{self.turn}"

    def is_awaited(self, now: Micros) -> bool:
        """Whether some who asked for it have still to open it."""
        return bool(self.askers - self.opened_to) and now < self.opened_at + OPENING

    def is_alike(self, request: AuditRequest) -> bool:
        """Whether somebody else asks for the same. Validators may know different sources of it."""
        return replace(self.request, sources=()) == replace(request, sources=())


class Auditor:
    """Executes what validators ask for, `slots` at a time, first come first served."""

    accepts: tuple[type, ...] = (AuditRequest, AuditOpenRequest, Fetched, FetchFailed, RunDone)

    def __init__(
        self,
        identity: Identity,
        chain: str,
        validators: Callable[[], tuple[PeerId, ...]],
        read_blob: Callable[[Digest], bytes],
        slots: int = 1,
    ) -> None:
        self._identity = identity
        self._chain = chain
        self._validators = validators
        self._read_blob = read_blob
        self._slots = slots
        self._audits: dict[Key, Audit] = {}
        self._queue: deque[Key] = deque()
        self._tasks: dict[str, Key] = {}

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        match message:
            case AuditRequest():
                return self._asked(sender, message, now)
            case AuditOpenRequest():
                return self._open(sender, (message.escrow, message.chunk, message.epoch), now)
            case Fetched():
                return self._fetched(Digest(message.digest), now)
            case FetchFailed():
                return self._fetch_failed(Digest(message.digest), message.reason, now)
            case RunDone():
                return self._done(message)
            case _:
                raise LocalError(f"{type(message).__name__} is not for the auditor", code="not_accepted")

    def tick(self, now: Micros) -> list[Effect]:
        """Fetch once more, forget what nobody will open."""
        effects: list[Effect] = []
        for key, audit in list(self._audits.items()):
            if audit.phase in ("sealed", "opened") and now >= audit.since + KEEP:
                del self._audits[key]
                effects += _forget(audit)
            elif audit.phase == "fetching" and audit.again is not None and audit.again <= now:
                audit.again = None
                effects.append(_fetch(audit.request))
        return [*effects, *self._wake(now)]

    def __len__(self) -> int:
        return len(self._audits)

    @property
    def running(self) -> int:
        """Executions under way."""
        return len(self._tasks)

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _asked(self, sender: PeerId, request: AuditRequest, now: Micros) -> list[Effect]:
        if sender not in self._validators():
            raise RemoteViolation(sender, "only a validator may ask for an audit", code="not_a_validator")
        key = _key(request)
        known = self._audits.get(key)
        is_alike = known is None or known.is_alike(request)
        if known is not None and not is_alike and known.phase != "opened":
            raise RemoteViolation(sender, "the same chunk and epoch with other inputs", code="other_inputs")
        if known is not None and is_alike and (sender not in known.opened_to or known.is_awaited(now)):
            known.askers.add(sender)
            return [self._commit(known, sender)] if known.phase in ("sealed", "opened") else []
        given_up = self._make_room(sender) if known is None and len(self._audits) >= QUEUE_MAX else []
        turn = 0 if known is None else known.turn + 1
        self._audits[key] = Audit(request, turn, now, sender, askers={sender})
        return [*given_up, _fetch(request), *self._wake(now)]

    def _make_room(self, sender: PeerId) -> list[Effect]:
        """Give up what the greediest validator asked for first: of that what fewest want, then the oldest. `Refused`
        where the sender is no less greedy."""
        begun = Counter(audit.first for audit in self._audits.values())
        most = max(begun, key=lambda peer: (begun[peer], peer))
        idle = [audit for audit in self._audits.values() if audit.first == most and audit.phase != "running"]
        if begun[sender] + 1 >= begun[most] or not idle:
            raise Refused(
                f"{len(self._audits)} audits are waiting already",
                code="queue_full",
                fix="Draw another auditor.",
                numbers={"waiting": len(self._audits), "queue_max": QUEUE_MAX},
            )
        audit = min(idle, key=lambda one: (len(one.askers), one.since))
        del self._audits[audit.key]
        if audit.phase == "queued":
            self._queue.remove(audit.key)
        return _forget(audit)

    def _open(self, sender: PeerId, place: Place, now: Micros) -> list[Effect]:
        asked = (self._audits.get((*place, purpose)) for purpose in PURPOSES)
        mine = [audit for audit in asked if audit is not None and sender in audit.askers]
        # What is still closed is meant: an opening that was lost is asked for again before anything new is asked.
        audit = next((one for one in mine if sender not in one.opened_to), mine[-1] if mine else None)
        if audit is None:
            raise Refused(
                "no audit of this chunk was asked for by you", code="no_audit", fix="Ask for the audit first."
            )
        if audit.phase not in ("sealed", "opened"):
            raise Refused("the audit is not sealed yet", code="too_early", fix="Wait for the commitment.")
        audit.opened_at = audit.opened_at or now
        audit.phase = "opened"
        audit.opened_to.add(sender)
        return [
            Send(sender, AuditReveal(*place, output=audit.output, salt=self._salt(audit), reason=audit.reason[:128]))
        ]

    # ── execution ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _fetched(self, digest: Digest, now: Micros) -> list[Effect]:
        waiting = [
            audit for audit in self._audits.values() if audit.phase == "fetching" and audit.request.spec == digest
        ]
        if not waiting:
            return []
        try:
            spec = wire.decode(self._read_blob(digest), _spec_decoder, self._identity.peer, SPEC_BYTES_MAX)
        except RemoteViolation as error:
            return [effect for audit in waiting for effect in self._seal(audit, ZERO_DIGEST, f"bad_spec: {error.rule}")]
        for audit in waiting:
            if audit.request.chunk >= spec.steps:
                continue
            audit.spec, audit.phase = spec, "queued"
            self._queue.append(audit.key)
        beyond = [audit for audit in waiting if audit.phase == "fetching"]
        refused = [effect for audit in beyond for effect in self._seal(audit, ZERO_DIGEST, "no_such_chunk")]
        return [*refused, *self._start()]

    def _fetch_failed(self, digest: Digest, reason: str, now: Micros) -> list[Effect]:
        effects: list[Effect] = []
        for audit in list(self._audits.values()):
            if audit.phase != "fetching" or audit.request.spec != digest or audit.again is not None:
                continue
            if audit.tries >= FETCH_TRIES:
                effects += self._seal(audit, ZERO_DIGEST, f"inputs: {reason}")
            else:
                audit.tries += 1
                audit.again = Micros(now + FETCH_AGAIN)
                effects.append(Wake(audit.again))
        return effects

    def _start(self) -> list[Effect]:
        effects: list[Effect] = []
        while self._queue and len(self._tasks) < self._slots:
            audit = self._audits[self._queue.popleft()]
            if audit.spec is None:
                raise LocalError("an audit was queued without its specification", code="bad_state")
            audit.phase = "running"
            self._tasks[audit.task] = audit.key
            effects.append(Compute(_run(audit, audit.spec)))
        return effects

    def _done(self, done: RunDone) -> list[Effect]:
        key = self._tasks.pop(done.task, None)
        if key is None:
            return []
        is_ok = done.reason == OK
        reason = OK if is_ok else f"{done.reason}: {done.detail}"
        return [*self._seal(self._audits[key], done.output if is_ok else ZERO_DIGEST, reason), *self._start()]

    def _seal(self, audit: Audit, output: Digest, reason: str) -> list[Effect]:
        audit.phase, audit.output, audit.reason, audit.spec = "sealed", output, reason, None
        escrow, chunk, epoch = audit.place
        fields: dict[str, str | int] = {"escrow": escrow.hex(), "chunk": chunk, "epoch": epoch, "reason": reason[:128]}
        return [*(self._commit(audit, asker) for asker in sorted(audit.askers)), Emit("audit_sealed", fields)]

    def _commit(self, audit: Audit, asker: PeerId) -> Send:
        sealed = operations.seal(self._identity.peer, self._salt(audit), audit.output)
        return Send(asker, AuditCommit(*audit.place, sealed=sealed))

    def _salt(self, audit: Audit) -> bytes:
        """Secret until opened, never stored: a signature nobody else can make, over the task's name."""
        return hashlib.sha256(
            self._identity.sign(wire.signing_bytes(self._chain, "audit-salt", audit.task.encode()))
        ).digest()

    def _wake(self, now: Micros) -> list[Effect]:
        times = [audit.again for audit in self._audits.values() if audit.again is not None]
        times += [Micros(audit.since + KEEP) for audit in self._audits.values() if audit.phase in ("sealed", "opened")]
        return [Wake(Micros(max(now, min(times))))] if times else []


def _purpose(request: AuditRequest) -> Purpose:
    if request.result:
        return "check"
    return "work" if request.last is UNSET else "finish"


def _key(request: AuditRequest) -> Key:
    return request.escrow, request.chunk, request.epoch, _purpose(request)


def _run(audit: Audit, spec: JobSpec) -> Run:
    """The order to execute. Whoever asks about an output has it, and the last state is a file of it."""
    request = audit.request
    askers = sorted(audit.askers) if _purpose(request) != "work" else []
    return Run(
        audit.task,
        spec,
        request.chunk,
        tuple(Digest(output) for output in request.outputs),
        tuple(PeerId(peer) for peer in dict.fromkeys((*request.sources, *askers))),
        PeerId(request.renter),
        units=request.units,
        seed=request.seed,
        result=Digest(request.result) if request.result else ZERO_DIGEST,
        last=None if request.last is UNSET else request.last,
    )


def _forget(audit: Audit) -> list[Effect]:
    """The results of a replay, and the states behind them: judges have fetched what they compare."""
    has_states = bool(audit.request.units) and audit.output != ZERO_DIGEST
    return [Compute(Forget(audit.output))] if has_states else []


def _fetch(request: AuditRequest) -> Compute:
    return Compute(Fetch(Digest(request.spec), request.spec_size, tuple(PeerId(peer) for peer in request.sources)))
