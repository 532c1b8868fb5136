"""A steward carries so many jobs, and no renter keeps the others out."""

from __future__ import annotations

import pytest

from protocol import steward as rules
from protocol.errors import Refused
from protocol.identity import Identity
from tests.protocol.town import job_spec, open_town


def test_one_renter_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "JOBS_MAX", 8)
    monkeypatch.setattr(rules, "JOBS_SHARE", 3)
    town = open_town(2)
    steward = town.citizens["steward"].steward
    flooder, other, third = (Identity(bytes([number]) * 32) for number in (91, 92, 93))
    steward.renters |= {one.peer: one for one in (flooder, other, third)}

    def submit(who: Identity, count: int) -> None:
        for _ in range(count):
            steward.submit(job_spec(), who.peer, f"job {len(steward.jobs)}", town.now)

    def refused(who: Identity) -> dict[str, int | str]:
        with pytest.raises(Refused) as caught:
            submit(who, 1)
        assert caught.value.code == "too_many_jobs"
        return dict(caught.value.numbers)

    submit(flooder, 4)
    assert refused(flooder) == {"carried": 4, "mine": 4}, "alone it may have half of the room"
    submit(other, 3)
    assert refused(other) == {"carried": 7, "mine": 3}
    submit(third, 1)
    assert refused(third) == {"carried": 8, "mine": 1}
