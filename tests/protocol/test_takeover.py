"""A takeover, step by step: who is asked when worker and standby die together, and what is told on the way."""

from __future__ import annotations

import msgspec

from protocol.completions import Guest, Recovering
from protocol.effects import Compute, Effect, Emit, Resume, Run, Send
from protocol.identity import Identity
from protocol.job_record import JobRecord
from protocol.jobspec import Checkpoint, Chunk, JobSpec
from protocol.leasing import GRANT_TIMEOUT, STANDBY_CUT
from protocol.messages import Beat
from protocol.operations import Assign
from protocol.provider_lease import Lease
from protocol.snapshots import Manifest, Pack
from protocol.units import SECOND, Digest, JobId, Micros, PeerId
from tests.protocol.test_steward import MakeTown, finish, start
from tests.protocol.town import Town, job_spec

PROTECTED = msgspec.structs.replace(job_spec(1), checkpoint=Checkpoint(every=Micros(SECOND)))
WORKER, STEWARD = (Identity(bytes([number]) * 32).peer for number in (1, 2))


def running(make_town: MakeTown) -> tuple[Town, JobRecord, str, str]:
    """A town whose only job runs, its worker, and who stands by."""
    town = make_town(providers=3)
    for citizen in town.citizens.values():
        citizen.seconds = 40.0
    record = start(town, PROTECTED)
    town.run(lambda: record.chunks[0].state == "running" and standby(town, record) != "", 30)
    return town, record, town.name(PeerId(record.chunks[0].provider)), standby(town, record)


def standby(town: Town, record: JobRecord) -> str:
    """Who stands by for the chunk now."""
    found = town.citizens["steward"].steward.job(JobId(record.job)).leasing.succession.standby(0)
    return town.name(found) if found is not None else ""


def moved_after(town: Town, record: JobRecord, dead: set[str], epoch: int = 2) -> Micros:
    """Kill them; how long until the chunk is leased again."""
    for name in dead:
        town.citizens[name].is_dead = True
    killed = town.now
    town.run(lambda: record.chunks[0].epoch == epoch, 60)
    return Micros(town.now - killed)


def test_a_dead_standby_costs_nothing_where_its_connection_is_seen_to_end(make_town: MakeTown) -> None:
    town, record, worker, other = running(make_town)
    unseen = moved_after(town, record, {worker, other})
    town, record, worker, other = running(make_town)
    town.cut = {worker, other}
    seen = moved_after(town, record, {worker, other})
    assert unseen > seen + GRANT_TIMEOUT - SECOND and seen < 8 * SECOND
    finish(town, record)
    assert record.state == "settled"


def test_old_bids_of_the_living_are_renewed_before_the_dead_are_asked(make_town: MakeTown) -> None:
    town, record, worker, other = running(make_town)
    leasing = town.citizens["steward"].steward.job(JobId(record.job)).leasing
    for bidder in leasing.bidders.values():
        bidder.bid = msgspec.structs.replace(bidder.bid, expires=town.now)
    town.cut = {worker, other}
    assert moved_after(town, record, {worker, other}) < 8 * SECOND


def test_nobody_is_asked_to_whom_there_is_no_connection(make_town: MakeTown) -> None:
    town, record, worker, _ = running(make_town)
    town.cut = {"p0", "p1", "p2"}
    town.citizens[worker].is_dead = True
    town.run(lambda: record.chunks[0].state == "waiting", 30)
    fenced = town.now
    town.run(lambda: town.now > fenced + 5 * SECOND, 30)
    assert (record.chunks[0].state, record.chunks[0].epoch) == ("waiting", 1)
    town.cut = {worker}
    town.run(lambda: record.chunks[0].epoch == 2, 10)


def test_a_standby_without_connection_is_replaced_after_a_while_and_not_for_an_interruption(
    make_town: MakeTown,
) -> None:
    town, record, _, other = running(make_town)
    town.cut = {other}
    began = town.now
    town.run(lambda: town.now > began + STANDBY_CUT - SECOND, 30)
    assert standby(town, record) == other
    town.run(lambda: standby(town, record) not in ("", other), 30)
    assert began + STANDBY_CUT <= town.now < began + STANDBY_CUT + 3 * SECOND


def test_who_was_killed_and_is_back_stands_by_again(make_town: MakeTown) -> None:
    """Each takeover uses up a bidder; without a new notice the third kill would find nobody ready."""
    town, record, worker, _ = running(make_town)
    for epoch in range(2, 6):
        town.cut = {worker}
        moved_after(town, record, {worker}, epoch)
        town.citizens[worker].is_dead, town.cut = False, set()
        worker = await_standby(town, record)
        record.chunks[0].fruitless = 0


def await_standby(town: Town, record: JobRecord) -> str:
    """Until somebody else than the worker stands by; the worker."""
    worker = town.name(PeerId(record.chunks[0].provider))
    town.run(lambda: standby(town, record) not in ("", worker), 30)
    return worker


# ── what its new worker tells ────────────────────────────────────────────────────────────────────────────────────────
def lease(resumes: bool) -> Lease:
    spec = JobSpec(name="job", runtime="python", commands=("true",), chunks=(Chunk(),), checkpoint=Checkpoint())
    assign = Assign(bytes(32), 0, 2, WORKER, 10, 10, 10**12, 10**13, (STEWARD,))
    pack = Pack(100, 100, "copy", 1, 3, (bytes([7]) * 32,))
    manifest = Manifest(bytes(16), bytes(32), 0, 1, 4, 50, 0, "framework", 0, 1000, 10, (pack,))
    resume = Resume(manifest, (((0, STEWARD),),)) if resumes else None
    where = (Digest(bytes(32)), assign, bytes(16), STEWARD, STEWARD, spec, (), (), "waiting", Micros(0))
    return Lease(*where, resume=resume)  # type: ignore[arg-type]


def phases(effects: list[Effect]) -> list[tuple[object, object]]:
    return [(one.fields["phase"], one.fields["us"]) for one in effects if isinstance(one, Emit)]


def beats(effects: list[Effect]) -> list[int]:
    """The steps of which a watching steward hears at once."""
    sent = [item.message for item in effects if isinstance(item, Send) and item.peer == STEWARD]
    return [beat.step for beat in sent if isinstance(beat, Beat)]


def test_every_phase_is_told_with_its_time_and_where_it_goes_on_and_the_first_new_step_at_once() -> None:
    one = lease(resumes=True)
    began = one.begin(Micros(1_000))
    assert [type(item.work) for item in began if isinstance(item, Compute)] == [Run]
    assert phases(began) == [("leased", 0)]
    assert phases(one.heard(Recovering(one.task, "ready"), Micros(1_200))) == [("ready", 200)]
    assert one.heard(Guest(one.task, "running", "", 0), Micros(1_250)) == []
    back = one.heard(Guest(one.task, "restored", "", 50), Micros(1_300))
    assert (phases(back), beats(back)) == ([], [50])
    assert one.heard(Guest(one.task, "running", "", 50), Micros(1_350)) == []
    told = one.heard(Guest(one.task, "running", "", 51), Micros(1_400))
    assert phases(told) == [("went_on", 400)]
    assert beats(told) == [51]
    assert one.heard(Guest(one.task, "running", "", 52), Micros(1_500)) == []


def test_whose_first_new_step_is_over_before_it_is_told_of_is_back_as_well() -> None:
    one = lease(resumes=True)
    one.begin(Micros(1_000))
    told = one.heard(Guest(one.task, "running", "", 52), Micros(1_400))
    assert (phases(told), beats(told)) == ([("went_on", 400)], [52])
    assert one.heard(Guest(one.task, "running", "", 53), Micros(1_500)) == []


def test_who_begins_at_the_beginning_tells_of_no_takeover() -> None:
    one = lease(resumes=False)
    assert phases(one.begin(Micros(1))) == [] and one.heard(Guest(one.task, "running", "", 3), Micros(2)) == []
