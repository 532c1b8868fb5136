"""Executes a chunk again for whoever doubts its result, and keeps the trace, so that its node can speak for it.

A renter's key is no peer: the node that it submits through, or one of its own, does this for it before it appeals. What
was computed is compared with the claim first, since who appeals against a right one loses a bond. Only where honest
machines get equal bits: within a tolerance an own run drifts away honestly. The trace stays until the claim is final.
Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from msgspec import Struct

from protocol import wire
from protocol.completions import Completion, Fetched, FetchFailed, RunDone
from protocol.effects import Compute, Effect, Emit, Fetch, Forget, Run, Store
from protocol.errors import LocalError, Refused, RemoteViolation, Unavailable
from protocol.held import Held, held_id
from protocol.jobspec import ZERO_DIGEST, JobSpec
from protocol.ledger import Ledger
from protocol.messages import Message
from protocol.operations import Hash
from protocol.proof import Proof
from protocol.provider_trace import committed
from protocol.units import MIB, Digest, Micros, PeerId
from verifier.case import Place
from verifier.views import outputs_read

KEY: Final = "rival/"
"""Under `rival/<place>`: what an own execution came to."""

WAITING_MAX: Final = 8
"""Chunks that wait or run at one time: they cost whoever orders them nothing before the appeal."""

SPEC_BYTES_MAX: Final = 16 * MIB
"""Bytes of an encoded specification."""

Phase = Literal["fetching", "queued", "running", "done", "failed"]

_spec_decoder: Final = wire.decoder(JobSpec)


@dataclass(slots=True)
class Testimony:
    """One chunk, executed here."""

    place: Place
    phase: Phase = "fetching"
    spec: JobSpec | None = None
    output: Digest = ZERO_DIGEST
    trace: Digest = ZERO_DIGEST
    """The blob of its trace; zeros for a job without units."""
    root: Digest = ZERO_DIGEST
    why: str = ""
    """Why it failed."""

    @property
    def task(self) -> str:
        """The name of its execution."""
        return f"rival-{self.place[0].hex()[:16]}-{self.place[1]}-{self.place[2]}"

    @property
    def is_over(self) -> bool:
        """Whether it came to an end, good or bad."""
        return self.phase in ("done", "failed")

    def agrees(self, held: Held) -> bool:
        """Whether the claim says the same: the same trace, and the same output where one was opened."""
        has_output = held.output not in (b"", ZERO_DIGEST)
        is_same = (self.root == held.trace) if held.trace else has_output
        return is_same and (not has_output or self.output == held.output)


class _Record(Struct, frozen=True):
    place: tuple[bytes, int, int]
    output: Hash
    trace: Hash
    root: Hash


_record_decoder: Final = wire.decoder(_Record)


class Witness:
    """All chunks that were executed here to contest them, one at a time."""

    accepts: tuple[type, ...] = (Fetched, FetchFailed, RunDone)

    def __init__(self, me: PeerId, ledger: Callable[[], Ledger], read: Callable[[Digest], bytes]) -> None:
        self._me = me
        self._ledger = ledger
        self._read = read
        self._known: dict[Place, Testimony] = {}
        self.by_root: dict[bytes, Digest] = {}
        """Root of an own trace -> its blob: for the advocate."""

    def find(self, place: Place) -> Testimony | None:
        """What is known of a chunk."""
        return self._known.get(place)

    def replay(self, place: Place, now: Micros) -> list[Effect]:
        """Execute the chunk of an undecided or appealable claim; one that failed is tried again. Raises `Refused`
        (`not_held`, `queue_full`)."""
        known = self._known.get(place)
        if known is not None and known.phase != "failed":
            return []
        held = self._ledger().held.get(held_id(*place))
        if held is None or held.end:
            raise Refused(
                "nothing is held of this chunk", code="not_held", fix="Only what can be appealed is replayed."
            )
        if sum(not item.is_over for item in self._known.values()) >= WAITING_MAX:
            raise Refused(
                f"{WAITING_MAX} chunks are executed or wait already", code="queue_full", fix="Ask again later."
            )
        item = self._known[place] = Testimony(place)
        spec = Digest(self._ledger().escrows[place[0]].spec)
        return [Compute(Fetch(spec, SPEC_BYTES_MAX, self._sources(item, held)))]

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        match message:
            case Fetched():
                return self._fetched(Digest(message.digest))
            case FetchFailed():
                return [
                    effect for item in self._waiting(Digest(message.digest)) for effect in self._fail(item, "inputs")
                ]
            case RunDone():
                return self._done(message)
            case _:
                raise LocalError(f"{type(message).__name__} is not for the witness", code="not_accepted")

    def tick(self, now: Micros) -> list[Effect]:
        """Forget what can be contested no more."""
        held = self._ledger().held
        over = [
            item for place, item in self._known.items()
            if item.phase not in ("queued", "running") and ((one := held.get(held_id(*place))) is None or one.end)
        ]  # fmt: skip
        effects: list[Effect] = []
        for item in over:
            del self._known[item.place]
            self.by_root.pop(item.root, None)
            effects.append(Store(_key(item.place), None))
            effects += [Compute(Forget(item.trace))] if item.trace != ZERO_DIGEST else []
        return effects

    def restore(self, records: Iterable[tuple[str, bytes]], now: Micros) -> list[Effect]:
        """What an earlier run of this node computed."""
        for key, value in records:
            if key.startswith(KEY):
                one = wire.decode(value, _record_decoder, self._me)
                digests = (Digest(one.output), Digest(one.trace), Digest(one.root))
                self._keep(Testimony(one.place, "done", None, *digests))
        return []

    # ── one chunk ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _reads(self, item: Testimony, spec: Digest) -> bool:
        """Whether it waits for this specification. Of a job that was over long ago the ledger knows none."""
        escrow = self._ledger().escrows.get(item.place[0])
        return item.phase == "fetching" and escrow is not None and escrow.spec == spec

    def _sources(self, item: Testimony, held: Held) -> tuple[PeerId, ...]:
        """Steward and provider have what the chunk reads."""
        return (PeerId(self._ledger().escrows[item.place[0]].steward), PeerId(held.payee))

    def _waiting(self, spec: Digest) -> list[Testimony]:
        return [item for item in self._known.values() if self._reads(item, spec)]

    def _fetched(self, digest: Digest) -> list[Effect]:
        effects: list[Effect] = []
        for item in self._waiting(digest):
            try:
                item.spec = wire.decode(self._read(digest), _spec_decoder, self._me, SPEC_BYTES_MAX)
            except (RemoteViolation, Unavailable):
                effects += self._fail(item, "bad_spec")
                continue
            if item.spec.numeric == "D3" or item.spec.is_interactive or _has_many(item.spec):
                effects += self._fail(item, "not_comparable")
            else:
                item.phase = "queued"
        return [*effects, *self._start()]

    def _start(self) -> list[Effect]:
        """The next one, when none runs."""
        if any(item.phase == "running" for item in self._known.values()):
            return []
        item = next((one for one in self._known.values() if one.phase == "queued"), None)
        if item is None or item.spec is None:
            return []
        escrow, chunk, _ = item.place
        held = self._ledger().held.get(held_id(*item.place))
        if held is None or held.end:
            return [*self._fail(item, "not_held"), *self._start()]
        outputs = outputs_read(self._ledger().escrows[escrow], chunk, len(item.spec.chunks))
        if outputs is None:
            return [*self._fail(item, "inputs_missing"), *self._start()]
        item.phase = "running"
        renter = PeerId(self._ledger().escrows[escrow].owner)
        return [Compute(Run(item.task, item.spec, chunk, outputs, self._sources(item, held), renter))]

    def _done(self, done: RunDone) -> list[Effect]:
        item = next((one for one in self._known.values() if one.phase == "running" and one.task == done.task), None)
        if item is None:
            return []
        if done.reason != "ok":
            return [*self._fail(item, f"{done.reason}: {done.detail}"), *self._start()]
        units = item.spec.units_of(item.place[1]) if item.spec is not None else 0
        if units:
            try:
                item.root = committed(done.trace, units, self._me, self._read).root
            except (Refused, RemoteViolation, Unavailable) as error:  # A job's program wrote it.
                forgotten = [Compute(Forget(done.trace))] if done.trace != ZERO_DIGEST else []
                return [*forgotten, *self._fail(item, f"trace: {error.detail}"), *self._start()]
        item.output, item.trace, item.phase, item.spec = done.output, done.trace, "done", None
        self._keep(item)
        record = _Record(item.place, item.output, item.trace, item.root)
        return [Store(_key(item.place), wire.encode(record)), _said(item), *self._start()]

    def _keep(self, item: Testimony) -> None:
        self._known[item.place] = item
        if item.trace != ZERO_DIGEST:
            self.by_root[item.root] = item.trace

    def _fail(self, item: Testimony, why: str) -> list[Effect]:
        item.phase, item.why, item.spec = "failed", why[:128], None
        return [_said(item)]


def _has_many(spec: JobSpec) -> bool:
    """Whether a chunk has many right results, of which another proves nothing."""
    return isinstance(spec.proof, Proof) and spec.proof.kind == "certificate"


def _said(item: Testimony) -> Emit:
    escrow, chunk, epoch = item.place
    fields: dict[str, str | int] = {"escrow": escrow.hex(), "chunk": chunk, "epoch": epoch}
    return Emit("replayed", fields | {"phase": item.phase, "root": item.root.hex(), "reason": item.why})


def _key(place: Place) -> str:
    return f"{KEY}{place[0].hex()}-{place[1]}-{place[2]}"
