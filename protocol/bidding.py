"""A provider looks at jobs: which notices it knows, what fits its host, what it asks. Spec: specs/15-provider.md."""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocol import jobrules, wire
from protocol.effects import Compute, Effect, Fetch, Send
from protocol.escrow_state import ChunkLease
from protocol.jobspec import JobSpec
from protocol.ledger import Ledger
from protocol.messages import Bid, JobNotice, NoBid
from protocol.offers import Terms
from protocol.operations import Assign
from protocol.units import MIB, MINUTE, SECOND, Digest, Micros, PeerId

LOOKAHEAD: Final = Micros(2 * SECOND)
"""Work taken in advance, so that the ledger's round trip overlaps with computing; a dead peer still holds little."""

SPEC_BYTES_MAX: Final = 16 * MIB
"""Bytes of an encoded specification."""

JOBS_KNOWN_MAX: Final = 1024
"""Notices remembered; beyond, the steward with the most of them loses its oldest."""

_spec_decoder: Final = wire.decoder(JobSpec)


@dataclass(frozen=True, slots=True)
class Counter:
    """What a provider needs from outside: its offer, its view of jobs, blobs, and the tier that it would use."""

    offer: Callable[[], Terms]
    exclusion: Callable[[JobSpec, PeerId, Micros], tuple[str, str] | None]
    """(code, detail) of the first dimension in which this host does not fit, or None."""
    read_blob: Callable[[Digest], bytes]
    executor: Callable[[JobSpec, PeerId], str]
    ledger: Callable[[], Ledger]

    def lease(self, assign: Assign) -> ChunkLease | None:
        """What the ledger knows of a chunk."""
        escrow = self.ledger().escrows.get(assign.escrow)
        return escrow.chunks.get(assign.chunk) if escrow is not None else None

    def is_behind(self, assign: Assign) -> bool:
        """Whether this copy of the ledger has not seen the end of the epoch before: its price may have been shared."""
        known = self.lease(assign)
        return assign.epoch > 1 and (known is None or known.epoch < assign.epoch - 1 or known.state != "free")

    def done_ppm(self, assign: Assign) -> int:
        """The share of a chunk that another has handed over: a new lease is about the rest."""
        known = self.lease(assign)
        return known.done_ppm if known is not None else 0


def lease_slots(slots: int, estimate: Micros) -> int:
    """Leases of one job that a host takes at a time: its slots, or as many short ones as fill the look-ahead."""
    return min(256, slots * max(1, LOOKAHEAD // estimate))


class Bidding:
    """Notices in, bids out."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._notices: dict[bytes, tuple[JobNotice, PeerId]] = {}
        self._specs: dict[Digest, JobSpec] = {}

    def known(self, job: bytes) -> tuple[JobNotice, PeerId, JobSpec] | None:
        """The notice of a job, its steward and its specification, once all three are here."""
        notice, steward = self._notices.get(job, (None, PeerId(b"")))
        spec = self._specs.get(Digest(notice.spec)) if notice else None
        return (notice, steward, spec) if notice and spec else None

    def noticed(self, steward: PeerId, notice: JobNotice, now: Micros) -> list[Effect]:
        """A steward has chunks to give away."""
        if notice.expires <= now or notice.chunks_open == 0 or self._counter.offer().slots == 0:
            return []
        self._notices[notice.job] = (notice, steward)
        if len(self._notices) > JOBS_KNOWN_MAX:
            self._forget_one()
        if Digest(notice.spec) in self._specs:
            return self._bid(notice, steward, now)
        return [Compute(Fetch(Digest(notice.spec), SPEC_BYTES_MAX, (steward,)))]

    def _forget_one(self) -> None:
        """Forget the oldest notice of the steward that has sent most of those that are known."""
        sent = collections.Counter(steward for _, steward in self._notices.values())
        most = max(sent, key=lambda steward: sent[steward])
        del self._notices[next(job for job, (_, steward) in self._notices.items() if steward == most)]

    def fetched(self, digest: Digest, now: Micros) -> list[Effect]:
        """A blob is here; when it is a specification that we wait for, bid on every job that has it."""
        waiting = [(notice, steward) for notice, steward in self._notices.values() if notice.spec == digest]
        if not waiting or digest in self._specs:
            return []
        body = self._counter.read_blob(digest)
        spec = wire.decode(body, _spec_decoder, waiting[0][1], SPEC_BYTES_MAX)
        jobrules.check(spec)
        self._specs[digest] = spec
        return [effect for notice, steward in waiting for effect in self._bid(notice, steward, now)]

    def forget(self, in_use: set[bytes], now: Micros) -> None:
        """Drop notices that are long over and specifications that no notice names."""
        for job, (notice, _) in list(self._notices.items()):
            if notice.expires + MINUTE < now and job not in in_use:
                del self._notices[job]
        named = {notice.spec for notice, _ in self._notices.values()}
        for digest in [digest for digest in self._specs if digest not in named]:
            del self._specs[digest]

    def _bid(self, notice: JobNotice, steward: PeerId, now: Micros) -> list[Effect]:
        spec, renter, terms = self._specs[Digest(notice.spec)], PeerId(notice.renter), self._counter.offer()
        why = self._counter.exclusion(spec, renter, now)
        if why is not None:
            return [Send(steward, NoBid(notice.job, why[0][:128], why[1][:128]))]
        executor = self._counter.executor(spec, renter)
        runtime = next((item.digest for item in terms.runtimes if item.name == spec.runtime), bytes(32))
        slots = lease_slots(terms.slots, spec.estimate)
        return [Send(steward, Bid(notice.job, slots, terms.price_per_hour, executor, runtime, notice.expires))]
