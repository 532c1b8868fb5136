"""Whoever comes back when its job is long over: the ledger has forgotten it, and nobody waits for ever."""

from __future__ import annotations

import pytest

from protocol import closing
from tests.protocol.test_steward import finish, start
from tests.protocol.town import job_spec, open_town


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is closed is forgotten with the next one that closes."""
    monkeypatch.setattr(closing, "KEPT_MIN", 0)
    monkeypatch.setattr(closing, "KEPT_TIME", 0)


def test_a_provider_lets_go_of_a_lease_whose_job_is_forgotten() -> None:
    town = open_town(2)
    first = start(town, job_spec(4))
    late = town.citizens["p0"]
    town.run(lambda: any(lease.phase == "running" for lease in late.provider.leases.values()))
    late.is_dead = True
    finish(town, first)
    town.run(lambda: town.ledger.escrows[first.escrow].is_closed)
    second = start(town, job_spec(2), "b")
    finish(town, second)
    town.run(lambda: first.escrow in town.ledger.bygone)
    late.is_dead = False
    assert late.provider.leases
    town._schedule(town.now, "p0")
    town.run(lambda: not late.provider.leases, 60)
    assert first.escrow in late.replica.ledger.bygone


def test_a_steward_is_at_rest_when_its_jobs_are_forgotten() -> None:
    town = open_town(2)
    first = start(town, job_spec(2))
    finish(town, first)
    finish(town, start(town, job_spec(2), "b"))
    steward = town.citizens["steward"]
    town.run(lambda: first.escrow in steward.replica.ledger.bygone)
    old = town.replace_steward()  # Its escrow is gone before the new process has looked at the job once.
    town.command("steward", old.steward, lambda now: old.steward.restore([first], now))
    town.run(lambda: first.escrow in old.replica.ledger.bygone)
    town.run(lambda: not old.steward.tick(town.now), 10)
