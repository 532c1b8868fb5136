"""The watcher: listens to the providers of leases and gives its signed word when one is dead.

Spec: specs/09-liveness.md. One watcher fences nobody: the steward needs two of a lease's three. Time in which this
process did not run itself is never taken for a provider's silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol import operations, wire
from protocol.completions import Completion
from protocol.effects import Effect, Emit, Send, Wake
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.greetings import Goodbye
from protocol.identity import Identity, is_signed_by, peer_text
from protocol.ledger import operation_decoder
from protocol.liveness import HEALTH_MAX, Alive, Dead, Detector, Liveness, Unknown
from protocol.messages import Attestation, Beat, Message, Unwatch, Watch
from protocol.operations import Assign, Fence, SignedOp
from protocol.units import HOUR, SECOND, Micros, PeerId

LOOK_INTERVAL: Final = Micros(SECOND // 4)
"""Microseconds between two looks: an eighth of the shortest silence that means anything."""

LATE_MIN: Final = Micros(SECOND // 4)
"""Microseconds by which a look must be late before this peer doubts its own health."""

ATTEST_AGAIN: Final = Micros(3 * SECOND)
"""Microseconds until the word is given again to a steward that has not ended the watch."""

DECLARED_HEALTH_MAX: Final = 2
"""Largest multiplier that a provider's own word earns: it can buy five seconds more, not half a minute."""

WATCHES_MAX: Final = 16_384
"""Leases that one peer watches; a detector holds 2 to 10 KB."""

WATCHES_PER_STEWARD_MAX: Final = 2_048
"""Leases that one steward may have watched here, so that one cannot use up the room of all."""


WATCH_MAX: Final = Micros(25 * HOUR)
"""Microseconds after which a watch ends by itself: the longest chunk and an hour. Deadlines in a lease are ledger time,
which may stand still, so they end no watch."""

LeaseKey = tuple[bytes, int, int]
"""Escrow, chunk, epoch."""


@dataclass(slots=True)
class Watched:
    """One lease under watch for one steward."""

    steward: PeerId
    assign: Assign
    detector: Detector
    until: Micros
    declared: int = 1
    shown: type[Liveness] = Alive
    fence: SignedOp | None = None
    """Our signed word, once given; it cannot be taken back."""
    said: Micros | None = None

    @property
    def provider(self) -> PeerId:
        return PeerId(self.assign.provider)


class Watcher:
    """Keeps one detector per lease and steward."""

    accepts: tuple[type, ...] = (Watch, Unwatch, Beat, Goodbye)

    def __init__(self, identity: Identity, chain: str) -> None:
        self._identity = identity
        self._chain = chain
        self._watched: dict[LeaseKey, dict[PeerId, Watched]] = {}
        self._counts: dict[PeerId, int] = {}
        self._epochs: dict[tuple[PeerId, bytes, int], int] = {}
        """The epoch watched per steward, escrow and chunk."""
        self._looked: Micros | None = None
        self.health = 1
        """Local-health multiplier, 1 to HEALTH_MAX: how late this peer's own looks are."""

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        match message:
            case Watch():
                return self._watch(sender, message.assign, now)
            case Unwatch():
                self._drop((message.escrow, message.chunk, message.epoch), sender)
                return []
            case Beat():
                return self._beat(sender, message, now)
            case Goodbye():
                return self._goodbye(sender, now)
            case _:
                raise LocalError(f"{type(message).__name__} is not for the watcher", code="not_accepted")

    def tick(self, now: Micros) -> list[Effect]:
        """Look at every lease; say so once when a state changes, and give our word when a provider is dead."""
        self._doubt_ourselves(now)
        effects: list[Effect] = []
        for watched in [one for lease in self._watched.values() for one in lease.values()]:
            if watched.until < now:
                self._drop(_key(watched.assign), watched.steward)
                continue
            effects += self._look(watched, now)
        return [*effects, *self._wake(now)]

    def states(self, now: Micros) -> dict[PeerId, Liveness]:
        """The best that is known of every provider under watch: alive for one lease is alive."""
        best: dict[PeerId, Liveness] = {}
        for lease in self._watched.values():
            for watched in lease.values():
                state = watched.detector.state(now, self._multiplier(watched))
                known = best.get(watched.provider)
                if known is None or state.silence < known.silence:
                    best[watched.provider] = state
        return best

    def __len__(self) -> int:
        return sum(self._counts.values())

    # ── what comes in ────────────────────────────────────────────────────────────────────────────────────────────────
    def _watch(self, steward: PeerId, signed: SignedOp, now: Micros) -> list[Effect]:
        assign = self._checked(steward, signed)
        key = _key(assign)
        known = self._watched.get(key, {}).get(steward)
        if known is not None:
            if known.assign != assign:
                raise RemoteViolation(steward, "two leases for one chunk and epoch", code="equivocation")
            return []
        newest = self._epochs.get((steward, assign.escrow, assign.chunk), 0)
        if newest > assign.epoch:
            raise Refused(
                f"epoch {assign.epoch} of chunk {assign.chunk} is over, {newest} is being watched",
                code="stale_epoch",
                numbers={"epoch": assign.epoch, "newest": newest},
            )
        if newest:
            self._drop((assign.escrow, assign.chunk, newest), steward)
        self._check_room(steward)
        is_first = not self._watched
        self._watched.setdefault(key, {})[steward] = Watched(steward, assign, Detector(now), Micros(now + WATCH_MAX))
        self._counts[steward] = self._counts.get(steward, 0) + 1
        self._epochs[steward, assign.escrow, assign.chunk] = assign.epoch
        return self._wake(now) if is_first else []

    def _checked(self, steward: PeerId, signed: SignedOp) -> Assign:
        """The lease inside, signed by whoever asks, naming both of us."""
        assign = wire.decode(signed.body, operation_decoder, steward)
        if not isinstance(assign, Assign):
            raise RemoteViolation(steward, f"asked to watch a {type(assign).__name__}, not a lease", code="malformed")
        body = wire.signing_bytes(self._chain, "op", signed.body)
        if not any(
            item.signer == steward and is_signed_by(steward, body, item.signature) for item in signed.signatures
        ):
            raise RemoteViolation(steward, "the lease to watch is not signed by who asks", code="bad_signature")
        if self._identity.peer not in assign.watchers or steward not in assign.watchers:
            raise RemoteViolation(steward, "the lease names other watchers", code="not_a_watcher")
        return assign

    def _check_room(self, steward: PeerId) -> None:
        mine = self._counts.get(steward, 0)
        if len(self) >= WATCHES_MAX or mine >= WATCHES_PER_STEWARD_MAX:
            raise Refused(
                f"watching {len(self)} leases, {mine} of them for this steward",
                code="watches_full",
                fix="Name another watcher.",
                numbers={
                    "watches": len(self),
                    "yours": mine,
                    "yours_max": WATCHES_PER_STEWARD_MAX,
                    "watches_max": WATCHES_MAX,
                },
            )

    def _beat(self, sender: PeerId, beat: Beat, now: Micros) -> list[Effect]:
        effects: list[Effect] = []
        for watched in self._watched.get((beat.escrow, beat.chunk, beat.epoch), {}).values():
            if watched.provider == sender:
                watched.detector.beat(now)
                watched.declared = min(DECLARED_HEALTH_MAX, beat.health)
                effects += self._look(watched, now)
        return effects

    def _goodbye(self, sender: PeerId, now: Micros) -> list[Effect]:
        effects: list[Effect] = []
        for lease in self._watched.values():
            for watched in lease.values():
                if watched.provider == sender:
                    watched.detector.goodbye(now)
                    effects += self._look(watched, now)
        return effects

    # ── judgement ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _doubt_ourselves(self, now: Micros) -> None:
        """A late look makes us slower to judge, and the time that we missed is nobody's silence."""
        if self._looked is None:
            return
        late = now - self._looked - LOOK_INTERVAL
        if late < LATE_MIN:
            self.health = max(1, self.health - 1)
            return
        self.health = min(HEALTH_MAX, self.health + 1 + late // SECOND)
        for lease in self._watched.values():
            for watched in lease.values():
                watched.detector.excuse(Micros(late), now)

    def _look(self, watched: Watched, now: Micros) -> list[Effect]:
        state = watched.detector.state(now, self._multiplier(watched))
        effects: list[Effect] = []
        if type(state) is not watched.shown and watched.fence is None:
            watched.shown = type(state)
            effects.append(Emit("liveness", _fields(watched, state)))
        if isinstance(state, Dead) and watched.fence is None:
            assign = watched.assign
            fence = Fence(assign.escrow, assign.chunk, assign.epoch)
            watched.fence = operations.signed_op(self._chain, fence, self._identity)
        if watched.fence is not None and (watched.said is None or now >= watched.said + ATTEST_AGAIN):
            watched.said = now
            effects.append(Send(watched.steward, Attestation(watched.fence)))
        return effects

    def _multiplier(self, watched: Watched) -> int:
        return max(self.health, watched.declared)

    # ── bookkeeping ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _drop(self, key: LeaseKey, steward: PeerId) -> None:
        lease = self._watched.get(key, {})
        if lease.pop(steward, None) is None:
            return
        if not lease:
            del self._watched[key]
        del self._epochs[steward, key[0], key[1]]
        self._counts[steward] -= 1
        if not self._counts[steward]:
            del self._counts[steward]

    def _wake(self, now: Micros) -> list[Effect]:
        """Look again soon, as long as there is anything to look at."""
        if not self._watched:
            self._looked = None
            return []
        self._looked = now
        return [Wake(Micros(now + LOOK_INTERVAL))]


def _key(assign: Assign) -> LeaseKey:
    return assign.escrow, assign.chunk, assign.epoch


def _fields(watched: Watched, state: Liveness) -> dict[str, str | int]:
    name = {Alive: "alive", Unknown: "unknown", Dead: "dead"}[type(state)]
    return {
        "peer": peer_text(watched.provider), "state": name, "silence_us": state.silence,
        "escrow": watched.assign.escrow.hex(), "chunk": watched.assign.chunk, "epoch": watched.assign.epoch,
    }  # fmt: skip
