"""What a provider knows of jobs is bounded, and no steward pushes out the jobs of others."""

from __future__ import annotations

import pytest

from protocol import bidding, wire
from protocol.bidding import Bidding, Counter
from protocol.genesis import Genesis
from protocol.jobspec import Chunk, JobSpec, Resources
from protocol.ledger import Ledger
from protocol.messages import Capability, JobNotice
from protocol.offers import Terms
from protocol.units import MINUTE, SECOND, Micros, PeerId

NOW = Micros(1_000_000 * SECOND)
BLOB = wire.encode(JobSpec(name="job", runtime="python", commands=("true",), chunks=(Chunk(),)))
VALIDATOR, FLOODER, OTHER, THIRD = (PeerId(bytes([number]) * 32) for number in range(1, 5))


def notice(job: int) -> JobNotice:
    start, end, spec = int(NOW), int(NOW + MINUTE), wire.digest(BLOB)
    return JobNotice(
        start, end - 1, end, job.to_bytes(16, "big"), VALIDATOR, spec, len(BLOB), bytes(32), "job", "python",
        Resources(), 1, 1,
    )  # fmt: skip


def desk() -> Bidding:
    ledger = Ledger(Genesis("town", NOW, ((VALIDATOR, 1),), ()))
    terms = Terms(("provider",), Capability(1, 1, 1, 1, 1), slots=1)
    return Bidding(Counter(lambda: terms, lambda *_: None, lambda _: BLOB, lambda *_: "bwrap", lambda: ledger))


def test_a_steward_that_announces_very_much_pushes_out_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bidding, "JOBS_KNOWN_MAX", 6)
    known = desk()
    known.noticed(OTHER, notice(1), NOW)
    known.fetched(wire.digest(BLOB), NOW)
    known.noticed(OTHER, notice(2), NOW)
    for job in range(10, 30):
        known.noticed(FLOODER, notice(job), NOW)
    known.noticed(THIRD, notice(3), NOW)
    assert all(known.known(notice(job).job) is not None for job in (1, 2, 3))
    assert [job for job in range(10, 30) if known.known(notice(job).job) is not None] == [27, 28, 29]
