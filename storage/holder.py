"""The holder: keeps shards for others, and all of a snapshot where it stands by. Spec: specs/27-custody.md.

A receipt is given when the shard is here, verified, and its lease is on disk: what was acknowledged survives a restart.
Whoever asked for a shard owns its lease; nobody else can prolong or end it, or have it proved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from protocol import wire
from protocol.completions import Completion, Encoded, Fetched, FetchFailed, Proved
from protocol.effects import Compute, Effect, Emit, Fail, Fetch, Prove, Send, Store, Wake
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.identity import Identity
from protocol.messages import Message
from protocol.snapshots import (
    Challenge,
    ChallengeAnswer,
    Keep,
    NotKept,
    Purpose,
    Release,
    Renew,
    Spread,
    SpreadDone,
    is_sound,
    receipt,
)
from protocol.units import MINUTE, SECOND, Digest, Micros, PeerId
from storage.hot import Hot, HotPacks
from storage.leases import LEASE_MAX, Lease, LeaseBook, record_decoder
from storage.pins import Pins

SKEW_MAX: Final = Micros(30 * SECOND)
"""Microseconds that an owner's clock may be ahead of ours."""

PENDING_MAX: Final = 1_024
"""Shards that are on their way here at once."""

PROOFS_MAX: Final = 32
"""Challenges of one peer that are being answered; each reads at most half a MiB."""

SWEEP_INTERVAL: Final = Micros(1 * MINUTE)
"""Microseconds between looks for leases that are over."""

USER: Final = "holder"
NOTHING: Final = bytes(32)
"""The proof of who has nothing."""


@dataclass(frozen=True, slots=True)
class Usage:
    """For the owner of the disk."""

    shards: int
    used: int
    quota: int
    until: Micros
    """The end of the last lease; 0: there is none."""


@dataclass(slots=True)
class Coming:
    """A shard on its way here, and who asked for it."""

    size: int
    asks: dict[PeerId, Keep] = field(default_factory=dict)


class Holder:
    """Holds what others ask it to, within a quota."""

    accepts: tuple[type, ...] = (Keep, Renew, Release, Spread, Challenge, Fetched, FetchFailed, Encoded, Proved)

    def __init__(self, identity: Identity, network: str, pins: Pins, quota: int, free_bytes: Callable[[], int]) -> None:
        self._identity = identity
        self._network = network
        self._pins = pins
        self._free_bytes = free_bytes
        self._book = LeaseBook(quota)
        self._coming: dict[Digest, Coming] = {}
        self._hot = HotPacks(pins)
        self._proving: dict[PeerId, int] = {}
        self._sweep_at = Micros(0)

    @property
    def usage(self) -> Usage:
        """What is held."""
        return Usage(len(self._book), self._book.used, self._book.quota, self._book.last_end or Micros(0))

    def holds(self, shard: Digest) -> bool:
        """Whether somebody has a lease of it."""
        return shard in self._book

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        match message:
            case Keep():
                return self._keep(sender, message, now)
            case Renew():
                return self._renew(sender, message, now)
            case Release():
                return self._release(sender, message)
            case Spread():
                return self._spread(sender, message, now)
            case Challenge():
                return self._challenged(sender, message)
            case Proved(peer=peer, shard=shard, nonce=nonce, proof=proof):
                return self._proved(peer, ChallengeAnswer(shard, nonce, proof))
            case Fetched(digest=digest, size=size):
                return [*self._arrived(digest, size, now), *self._hot.arrived(digest)]
            case FetchFailed(digest=digest, reason=reason):
                return [*self._failed(digest, reason), *self._hot.failed(digest)]
            case Encoded(shard=shard, code=code):
                return self._encoded(shard, code, now)
            case _:
                raise LocalError(f"{type(message).__name__} is not for the holder", code="not_accepted")

    def tick(self, now: Micros) -> list[Effect]:
        """Let go of what is over."""
        if now < self._sweep_at:
            return [Wake(self._sweep_at)] if len(self._book) else []
        effects: list[Effect] = []
        for digest, owner in self._book.overdue(now):
            effects += self._end(digest, owner)
        self._sweep_at = Micros(max(now + SWEEP_INTERVAL, self._book.next_end or 0))
        return [*effects, Wake(self._sweep_at)] if len(self._book) else effects

    def restore(self, records: Iterable[tuple[str, bytes]], now: Micros) -> list[Effect]:
        """Leases of an earlier run, from records under `shard/`. A shard whose blob is gone is not pretended."""
        effects: list[Effect] = []
        for key, value in records:
            digest = Digest(bytes.fromhex(key.removeprefix("shard/")))
            record = wire.decode(value, record_decoder, self._identity.peer)
            if not self._pins.has(digest):
                effects += [Store(key, None), Emit("shard_missing", {"shard": digest.hex()})]
                continue
            self._pins.pin(digest, USER, is_ours=not record.is_foreign)
            for one in record.leases:
                self._book.put(digest, record.size, PeerId(one.owner), Lease(Micros(one.until), one.purpose))
        self._sweep_at = now
        return [*effects, Wake(now, self)]

    # ── single shards ────────────────────────────────────────────────────────────────────────────────────────────────
    def _keep(self, owner: PeerId, keep: Keep, now: Micros) -> list[Effect]:
        digest = Digest(keep.shard)
        try:
            self._check_time(keep.until, keep.purpose, now)
            self._check_fits(owner, digest, keep.size, keep.size)
        except Refused as refusal:
            return [_not_kept(owner, digest, refusal.code, refusal.detail)]
        if digest in self._book and self._book.size(digest) == keep.size and self._pins.has(digest):
            return self._promise(owner, digest, keep.size, Lease(Micros(keep.until), keep.purpose), now)
        coming = self._coming.get(digest)
        if coming is not None and coming.size == keep.size:
            coming.asks[owner] = keep
            return []
        if coming is not None or digest in self._book:
            return [_not_kept(owner, digest, "wrong_size", f"{keep.size} bytes are not the size of this shard")]
        self._coming[digest] = Coming(keep.size, {owner: keep})
        self._pins.pin(digest, USER)
        sources = tuple(dict.fromkeys((*(PeerId(peer) for peer in keep.sources), owner)))
        return [Compute(Fetch(digest, keep.size, sources))]

    def _check_time(self, until: int, purpose: Purpose, now: Micros) -> None:
        if until <= now:
            raise Refused(
                f"a lease that ended {now - until} µs ago", code="lease_over", numbers={"until": until, "now": now}
            )
        if until > now + LEASE_MAX[purpose] + SKEW_MAX:
            raise Refused(
                f"a lease of {until - now} µs, {LEASE_MAX[purpose]} are the most for this purpose",
                code="lease_too_long",
                numbers={"until": until, "longest": LEASE_MAX[purpose]},
            )

    def _check_fits(self, owner: PeerId, digest: Digest, shard_size: int, size: int) -> None:
        """Quota, disk, and the number of shards under way, for `size` bytes in shards of `shard_size`."""
        coming = self._coming.get(digest)
        if coming is not None and owner in coming.asks:
            return
        waiting = sum(one.size for one in self._coming.values()) + self._hot.waiting()
        mine = sum(one.size for one in self._coming.values() if owner in one.asks) + self._hot.waiting(owner)
        more = size - shard_size
        self._book.check_room(owner, digest, shard_size, waiting + more, mine + more)
        if digest not in self._book and size + waiting > self._free_bytes():
            raise Refused(
                f"the disk has {self._free_bytes()} bytes left, {waiting} are promised, {size} more do not fit",
                code="disk_full",
                numbers={"size": size, "free": self._free_bytes(), "waiting": waiting},
            )
        if len(self._coming) >= PENDING_MAX:
            raise Refused(f"{PENDING_MAX} shards are on their way here", code="busy", numbers={"waiting": PENDING_MAX})

    def _arrived(self, digest: Digest, size: int, now: Micros) -> list[Effect]:
        coming = self._coming.pop(digest, None)
        if coming is None:
            return []
        effects: list[Effect] = []
        for owner, keep in coming.asks.items():
            if size != keep.size:
                effects.append(_not_kept(owner, digest, "wrong_size", f"the shard has {size} bytes, not {keep.size}"))
                effects.append(Fail(RemoteViolation(owner, "a shard is not as long as its owner says", code="size")))
            elif keep.until <= now:
                effects.append(_not_kept(owner, digest, "lease_over", "it came when its lease was over"))
            else:
                effects += self._promise(owner, digest, size, Lease(Micros(keep.until), keep.purpose), now)
        return effects if digest in self._book else [*effects, *self._pins.unpin([digest], USER)]

    def _failed(self, digest: Digest, reason: str) -> list[Effect]:
        coming = self._coming.pop(digest, None)
        if coming is None:
            return []
        refusals = [_not_kept(owner, digest, "fetch_failed", reason) for owner in coming.asks]
        return [*refusals, *([] if digest in self._book else self._pins.unpin([digest], USER))]

    def _promise(self, owner: PeerId, digest: Digest, size: int, lease: Lease, now: Micros) -> list[Effect]:
        """On disk first, then the word is given."""
        known = self._lease(owner, digest, size, lease)
        signed = receipt(self._identity, self._network, digest, size, known.until)
        return [self._stored(digest), Send(owner, signed), *self._wake(known, now)]

    def _lease(self, owner: PeerId, digest: Digest, size: int, lease: Lease) -> Lease:
        self._pins.pin(digest, USER)
        return self._book.put(digest, size, owner, lease)

    def _stored(self, digest: Digest) -> Store:
        return Store(f"shard/{digest.hex()}", self._book.record(digest, self._pins.is_foreign(digest)))

    def _renew(self, owner: PeerId, renew: Renew, now: Micros) -> list[Effect]:
        effects: list[Effect] = []
        for raw in dict.fromkeys(renew.shards):
            digest = Digest(raw)
            known = self._book.lease(digest, owner)
            if known is None or not self._pins.has(digest):
                effects.append(_not_kept(owner, digest, "gone", "no lease of yours is here"))
                continue
            try:
                self._check_time(renew.until, known.purpose, now)
            except Refused as refusal:
                effects.append(_not_kept(owner, digest, refusal.code, refusal.detail))
                continue
            lease = Lease(Micros(renew.until), known.purpose)
            effects += self._promise(owner, digest, self._book.size(digest), lease, now)
        return effects

    def _release(self, owner: PeerId, release: Release) -> list[Effect]:
        shards = [Digest(raw) for raw in dict.fromkeys(release.shards)]
        effects: list[Effect] = []
        others = 0
        for digest in shards:
            coming = self._coming.get(digest)
            if coming is not None:
                coming.asks.pop(owner, None)
            if self._book.lease(digest, owner) is not None:
                effects += self._end(digest, owner)
            elif digest in self._book:
                others += 1
        effects += self._hot.released(owner, shards)
        if others and others == len(shards):
            raise Refused(
                f"{others} shards are held for others; only who asked to keep them may release them",
                code="not_owner",
                numbers={"shards": others},
            )
        return effects

    def _end(self, digest: Digest, owner: PeerId) -> list[Effect]:
        is_gone = self._book.end(digest, owner)
        return [self._stored(digest), *(self._pins.unpin([digest], USER) if is_gone else [])]

    # ── whole packs ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _spread(self, owner: PeerId, spread: Spread, now: Micros) -> list[Effect]:
        if not is_sound(spread.pack):
            raise RemoteViolation(owner, "a pack whose numbers disagree", code="malformed")
        hot = Hot(owner, spread.pack, Micros(spread.until))
        if self._hot.has(owner, hot.name):
            return []
        try:
            self._check_time(hot.until, "rolling", now)
            self._check_fits(owner, hot.name, hot.pack.shard_size, hot.bytes)
        except Refused as refusal:
            return [Send(owner, SpreadDone(hot.name, refusal.code))]
        return self._hot.add(hot)

    def _encoded(self, name: Digest, code: str, now: Micros) -> list[Effect]:
        complete, effects = self._hot.encoded(name, code)
        for hot in complete:
            lease = Lease(hot.until, "rolling")
            for digest in hot.shards:
                self._lease(hot.owner, digest, hot.pack.shard_size, lease)
                effects.append(self._stored(digest))
            effects += [*self._hot.done(hot), *self._wake(lease, now)]
        return effects

    # ── proofs ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _challenged(self, sender: PeerId, challenge: Challenge) -> list[Effect]:
        digest = Digest(challenge.shard)
        if self._book.lease(digest, sender) is None or not self._pins.has(digest):
            return [Send(sender, ChallengeAnswer(challenge.shard, challenge.nonce, NOTHING))]
        if any(offset >= self._book.size(digest) for offset in challenge.offsets):
            raise RemoteViolation(sender, "a challenge beyond the end of the shard", code="malformed")
        if self._proving.get(sender, 0) >= PROOFS_MAX:
            raise Refused(
                f"{PROOFS_MAX} challenges of yours are being answered", code="busy", numbers={"limit": PROOFS_MAX}
            )
        self._proving[sender] = self._proving.get(sender, 0) + 1
        return [Compute(Prove(sender, challenge))]

    def _proved(self, peer: PeerId, answer: ChallengeAnswer) -> list[Effect]:
        if peer not in self._proving:
            return []
        self._proving[peer] -= 1
        if not self._proving[peer]:
            del self._proving[peer]
        return [Send(peer, answer)]

    def _wake(self, lease: Lease, now: Micros) -> list[Effect]:
        """Look again when this lease is over, if that is sooner."""
        wanted = Micros(max(now + SWEEP_INTERVAL, lease.gone))
        if not now < self._sweep_at <= wanted:
            self._sweep_at = wanted
        return [Wake(self._sweep_at)]


def _not_kept(owner: PeerId, digest: Digest, code: str, detail: str) -> Send:
    return Send(owner, NotKept(digest, code[:128], detail[:128]))
