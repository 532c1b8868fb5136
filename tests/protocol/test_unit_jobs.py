"""Whole jobs whose chunks are cut into units, among real machines: proven, cheated on, kept back, lied about."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from protocol.effects import Run
from protocol.job_record import JobRecord
from protocol.jobspec import JobSpec
from protocol.messages import AuditRequest, Message, Reveal, UnitsOpened, UnitsRequest
from protocol.proof import Kind, Numeric, Proof, Tolerance
from protocol.units import PPM, PeerId
from simulations.units import Conduct
from tests.protocol.test_steward import finish, money, start
from tests.protocol.town import Town, job_spec

MakeTown = Callable[..., Town]

TOLERANCE = Tolerance(t_ok=1_000_000, t_bad=1_000_000_000)
UNITS = 8
SKIPS = Conduct(skips=lambda index: index == 5)
CHEAPER = Conduct(err=lambda index: 2_000_000_000)


def unit_spec(
    numeric: Numeric = "D1",
    kind: Kind = "training",
    chunks: int = 1,
    samples: int = UNITS,
    auditors: int = 1,
    check: tuple[str, ...] = (),
    reduce: bool = False,
) -> JobSpec:
    tolerance: Tolerance | UnsetType = TOLERANCE if numeric == "D3" else UNSET
    proof = Proof(kind, UNITS, samples=samples, auditors=auditors, tolerance=tolerance, check=check)
    return job_spec(chunks, audit_ppm=PPM, proof=proof, numeric=numeric, reduce=reduce)


def first_end(town: Town, record: JobRecord) -> tuple[str, str]:
    """How the first lease of the job's only chunk ended: outcome and code."""
    seen: dict[int, tuple[str, str]] = {}

    def ended() -> bool:
        for emit in town.citizens["validator"].events:
            if emit.name == "verdict":
                seen.setdefault(int(emit.fields["epoch"]), (str(emit.fields["outcome"]), str(emit.fields["code"])))
        return 1 in seen

    town.run(ended)
    return seen[1]


def only(town: Town, **changes: object) -> None:
    """All providers behave like this."""
    for name, citizen in town.citizens.items():
        if name.startswith("p"):
            for key, value in changes.items():
                setattr(citizen, key, value)


def replays(town: Town) -> list[Run]:
    return [run for citizen in town.citizens.values() for run in citizen.runs if run.units]


def test_honest_units_are_proven_and_paid(make_town: MakeTown) -> None:
    town = make_town(providers=2, auditors=2)
    record = start(town, unit_spec(chunks=3, samples=4, reduce=True))
    finish(town, record)
    assert record.state == "settled"
    assert {chunk.outcome for chunk in record.chunks} == {"accept"}
    escrow = town.ledger.escrows[record.escrow]
    codes = {index: lease.code for index, lease in escrow.chunks.items()}
    assert codes == {0: "units_equal", 1: "units_equal", 2: "units_equal", 3: "hash_equal"}, "the last has no units"
    assert all(lease.trace and lease.units == UNITS for index, lease in escrow.chunks.items() if index < 3)
    assert all(len(run.units) == 4 for run in replays(town))
    assert all(not len(citizen.provider.traces) for citizen in town.citizens.values()), "nobody can appeal: forgotten"


def test_one_unit_left_out_costs_the_whole_stake_of_the_lease(make_town: MakeTown) -> None:
    town = make_town(providers=1, auditors=2)
    only(town, units=SKIPS)
    record = start(town, unit_spec())
    assert first_end(town, record) == ("fraud", "unit_differs")
    town.run(lambda: town.ledger.escrows[record.escrow].slashed > 0)
    assert record.state != "settled"
    provider = town.citizens["p0"].identity.peer
    assert town.ledger.standings[provider].wrong == 1


def test_drift_beyond_the_tolerance_is_not_paid_and_not_slashed(make_town: MakeTown) -> None:
    town = make_town(providers=1, auditors=2)
    only(town, units=CHEAPER)
    record = start(town, unit_spec("D3", samples=4))
    assert first_end(town, record) == ("rejected", "out_of_tolerance")
    town.run(lambda: town.ledger.escrows[record.escrow].chunks[0].outcome == "rejected")
    assert town.ledger.escrows[record.escrow].slashed == 0


def test_the_noise_of_honest_machines_is_within_the_tolerance(make_town: MakeTown) -> None:
    town = make_town(providers=2, auditors=2)
    for number, citizen in enumerate(town.citizens.values()):
        noise = 100_000 * number
        citizen.units = Conduct(err=lambda index, noise=noise: noise)  # type: ignore[misc]
    record = start(town, unit_spec("D3", chunks=2, samples=4))
    finish(town, record)
    assert record.state == "settled"
    assert {lease.code for lease in town.ledger.escrows[record.escrow].chunks.values()} == {"within_tolerance"}


def test_who_does_not_open_withholds(make_town: MakeTown) -> None:
    town = make_town(providers=1, auditors=1)
    only(town, deaf=(UnitsRequest,))
    record = start(town, unit_spec())
    assert first_end(town, record) == ("withheld", "withheld")


def _bent(message: Message) -> Message:
    if isinstance(message, UnitsOpened) and message.openings:
        first, *rest = message.openings
        leaf = msgspec.structs.replace(first.leaf, state=b"x" * 32)
        return msgspec.structs.replace(message, openings=(msgspec.structs.replace(first, leaf=leaf), *rest))
    return message


def _short(message: Message) -> Message:
    return msgspec.structs.replace(message, openings=message.openings[:1]) if isinstance(message, Reveal) else message


@pytest.mark.parametrize(("bends", "end"), [(_bent, ("severe", "bad_path")), (_short, ("withheld", "withheld"))])
def test_other_leaves_than_the_claims(
    make_town: MakeTown, bends: Callable[[Message], Message], end: tuple[str, str]
) -> None:
    town = make_town(providers=1, auditors=1)
    only(town, bends=bends)
    record = start(town, unit_spec())
    assert first_end(town, record) == end


def test_a_lying_auditor_is_named_on_the_ledger(make_town: MakeTown) -> None:
    town = make_town(providers=1, auditors=2)
    town.citizens["a0"].units = Conduct(skips=lambda index: True)
    town.auditing = {town.citizens[name].identity.peer: 1 for name in ("a0", "a1")}
    record = start(town, unit_spec())
    finish(town, record)
    assert record.state == "settled"
    audited = [name for name in ("a0", "a1") if town.citizens[name].runs]
    faulted = town.ledger.standings.get(town.citizens["a0"].identity.peer)
    assert (faulted is not None and faulted.faulted == 1) == ("a0" in audited)


def test_two_auditors_seal_before_the_provider_shows_anything(make_town: MakeTown) -> None:
    town = make_town(providers=1, auditors=3)
    order: list[str] = []
    for name, citizen in town.citizens.items():
        citizen.bends = lambda message, name=name: _noted(order, name, message)  # type: ignore[misc]
    record = start(town, unit_spec(auditors=2))
    finish(town, record)
    asked = [line for line in order if line.endswith("AuditRequest")]
    assert len(asked) == 2
    reveal = order.index("p0 Reveal")
    assert sum(line.endswith("AuditCommit") for line in order[:reveal]) == 2
    assert sum(line.endswith("AuditReveal") for line in order[:reveal]) == 0


def _kept(shown: list[AuditRequest], message: Message) -> Message:
    shown += [message] if isinstance(message, AuditRequest) else []
    return message


def _noted(order: list[str], name: str, message: Message) -> Message:
    order.append(f"{name} {type(message).__name__}")
    return message


def test_every_result_goes_through_the_jobs_own_check(make_town: MakeTown) -> None:
    town = make_town(providers=1, auditors=1)
    record = start(town, unit_spec(check=("python check.py",), chunks=2))
    finish(town, record)
    assert record.state == "settled"
    checks = [run for citizen in town.citizens.values() for run in citizen.runs if any(run.result)]
    assert {run.chunk for run in checks} == {0, 1}


def test_a_result_that_fails_its_providers_own_check_is_never_claimed(make_town: MakeTown) -> None:
    """A check that no result passes is the job's fault: nobody claims, nobody is slashed, and the job ends."""
    town = make_town(providers=2, auditors=1)
    for citizen in town.citizens.values():
        citizen.own_check = "exit"
    record = start(town, unit_spec(check=("false",), chunks=1))
    town.run(lambda: record.is_final)
    assert record.state == "failed" and "the job's own check" in record.reason, record.reason
    assert all(not standing.wrong for standing in town.ledger.standings.values())


def test_bad_results_fail_the_check_even_when_their_units_were_not_looked_at(make_town: MakeTown) -> None:
    town = make_town(providers=1, auditors=2)
    only(town, units=SKIPS)
    spec = msgspec.structs.replace(unit_spec(check=("python check.py",), samples=1), audit_ppm=0)
    record = start(town, spec)
    outcome, code = first_end(town, record)
    assert (outcome, code) in {("fraud", "check_failed"), ("fraud", "unit_differs")}


def test_an_auditor_never_gets_what_a_replayed_unit_led_to(make_town: MakeTown) -> None:
    town = make_town(providers=2, auditors=2)
    shown: list[AuditRequest] = []
    town.citizens["validator"].bends = lambda message: _kept(shown, message)
    record = start(town, unit_spec(chunks=4, samples=5))
    finish(town, record)
    assert shown
    for request in shown:
        asked = {leaf.index: leaf for leaf in request.units}
        assert all(asked[index].state == bytes(32) for index in asked if index - 1 in asked)


def test_money_adds_up(make_town: MakeTown) -> None:
    town = make_town(providers=2, auditors=2)
    record = start(town, unit_spec(chunks=4, samples=4))
    finish(town, record)
    paid, commission, refunded, slashed = money(town, record)
    evidence = town.ledger.escrows[record.escrow].evidence
    assert (paid + commission + refunded + evidence, slashed) == (record.cap, 0)
    assert PeerId(record.chunks[0].provider) in {town.citizens[name].identity.peer for name in ("p0", "p1")}
