"""What a node shows of jobs that the ledger keeps nothing of but totals."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from node.control_methods import JobAppealParams, JobEvidenceParams, RenterParams
from node.parts import Parts
from node.renter_api import RenterApi
from node.store import RecordStore
from node.views import Plain, job_text, money_view, share_view
from protocol import closing
from protocol.errors import Refused
from protocol.identity import peer_text
from protocol.ledger import check
from protocol.operations import Assign, EscrowClose, signed_op
from protocol.units import CREDIT, SECOND, PeerId
from tests.node.test_money_view import record_of
from tests.node.test_proof_api import api
from tests.protocol.ledger_world import (
    CHAIN,
    FUNDS,
    PROVIDERS,
    RENTER,
    STEWARD,
    VALIDATOR,
    WATCHERS,
    World,
    claim,
    handover,
    open_escrow,
    verdict,
    with_policy,
)
from verifier.parties import parties

P, Q, _ = PROVIDERS
CAP = 100 * CREDIT
PRICE = 1_000
JOB = b"j" * 16


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Whatever is closed is forgotten with the next one that closes."""
    monkeypatch.setattr(closing, "KEPT_MIN", 0)
    monkeypatch.setattr(closing, "KEPT_TIME", 0)
    return World(with_policy())


def handed_job(world: World) -> bytes:
    """One chunk, handed over half way; closed and final."""
    last = world.time + 10_000 * SECOND
    escrow = world.ok(open_escrow(CAP, 0, last, JOB), RENTER)
    times = (last - 2, last)
    world.ok(Assign(escrow, 0, 1, P.peer, PRICE, PRICE, *times, WATCHERS), STEWARD, P)
    world.ok(handover(escrow), STEWARD, P)
    world.ok(Assign(escrow, 0, 2, Q.peer, PRICE // 2, PRICE, *times, WATCHERS), STEWARD, Q)
    world.ok(claim(escrow, epoch=2, provider=Q), Q)
    world.ok(verdict(escrow, epoch=2), VALIDATOR)
    world.mature()
    world.ok(EscrowClose(escrow), STEWARD)
    return escrow


def forget(world: World, escrow: bytes) -> None:
    world.pass_time(world.time + SECOND)
    other = world.ok(open_escrow(CREDIT, 1, world.time + SECOND), RENTER)
    world.ok(EscrowClose(other), STEWARD)
    assert list(world.ledger.bygone) == [escrow]


def test_totals_and_shares_are_what_they_were(world: World) -> None:
    escrow = handed_job(world)

    def looked() -> tuple[Plain, list[Plain], list[Plain]]:
        ledger = world.ledger
        money = money_view(record_of(escrow, cap=CAP), ledger, ledger.time, False)
        return money, share_view(P.peer, ledger), share_view(Q.peer, ledger)

    before = looked()
    assert before[0]["paid"] == PRICE * 9 // 10 and before[1][0]["state"] == "paid"
    forget(world, escrow)
    assert looked() == before


async def test_a_renters_moves_add_up(world: World, tmp_path: Path) -> None:
    escrow = handed_job(world)
    records = RecordStore(tmp_path / "records.db")
    renter = RenterApi(cast("Parts", SimpleNamespace(ledger=lambda: world.ledger, records=records)))

    async def moved() -> int:
        view = await renter.balance(RenterParams(peer_text(RENTER.peer)))
        lines = cast("list[Plain]", view["lines"])
        assert view["available"] == FUNDS + sum(int(str(line["amount"])) for line in lines)
        return len(lines)

    assert await moved() == 2
    forget(world, escrow)
    assert await moved() == 1 + 2
    records.close()


async def test_old_decisions_are_shown_and_not_contested(world: World, tmp_path: Path) -> None:
    escrow = handed_job(world)
    forget(world, escrow)
    node = api(world, STEWARD, tmp_path, RENTER)
    shown = await node.evidence(JobEvidenceParams(job_text(JOB)))
    assert shown["claims"] == []
    with pytest.raises(Refused) as caught:
        await node.appeal(JobAppealParams(job_text(JOB), 0))
    assert caught.value.code == "not_held"


def test_who_is_told_of_a_late_operation(world: World) -> None:
    """Its steward still, and nobody for the renter, whose key is no peer."""
    escrow = handed_job(world)
    late = check(signed_op(CHAIN, EscrowClose(escrow), RENTER), CHAIN, PeerId(bytes(32)))
    before = parties(world.ledger, late)
    forget(world, escrow)
    assert parties(world.ledger, late) == before == {STEWARD.peer}
