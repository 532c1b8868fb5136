"""What the simulator's swarm found: jobs end, and nobody is left waiting, whatever message is lost."""

from __future__ import annotations

from collections.abc import Callable

from protocol import wire
from protocol.completions import Completion
from protocol.job_record import JobRecord
from protocol.ledger import operation_decoder
from protocol.messages import Message, Receipts, Submit, Unwatch
from protocol.operations import Verdict
from protocol.units import SECOND, JobId, PeerId
from protocol.watcher import Watcher
from tests.protocol.town import Town, job_spec

MakeTown = Callable[..., Town]
Loses = Callable[[str, Message | Completion], bool]


def lose(town: Town, is_lost: Loses) -> None:
    """From now on messages for which this holds (receiver, message) never arrive."""
    give = town.give

    def lossy(name: str, sender: PeerId, message: Message | Completion, delay: float = 2_000) -> None:
        if not is_lost(name, message):
            give(name, sender, message, delay)

    town.give = lossy  # type: ignore[method-assign]  # The wire of this town is what the test breaks.


def tells_of(message: Message | Completion, kind: type) -> bool:
    """Whether receipts hold an operation of this kind."""
    if not isinstance(message, Receipts):
        return False
    return any(isinstance(operation_decoder.decode(signed.body), kind) for signed in message.operations)


def watchers_of(town: Town) -> list[Watcher]:
    """Everybody's watcher."""
    machines = [machine for citizen in town.citizens.values() for machine in citizen.peer._machines]
    return [machine for machine in machines if isinstance(machine, Watcher)]


def start(town: Town, key: str, chunks: int = 2) -> JobRecord:
    """Submit and confirm."""
    citizen, spec = town.citizens["steward"], job_spec(chunks)
    record, _, effects = citizen.steward.submit(spec, citizen.identity.peer, key, town.now)
    town.blobs[wire.digest(wire.encode(spec))] = wire.encode(spec)
    town.command("steward", citizen.steward, lambda now: effects)
    town.command("steward", citizen.steward, lambda now: citizen.steward.confirm(JobId(record.job), now))
    return record


def test_an_operation_whose_message_was_lost_is_sent_again(make_town: MakeTown) -> None:
    town, lost = make_town(providers=2), [0]

    def first_submits(name: str, message: Message | Completion) -> bool:
        lost[0] += isinstance(message, Submit)
        return isinstance(message, Submit) and lost[0] <= 3

    lose(town, first_submits)
    record = start(town, "a")
    town.run(lambda: record.is_final, 60)
    assert record.state == "settled"


def test_an_escrow_that_overtook_an_earlier_one_waits_for_it(make_town: MakeTown) -> None:
    town, lost = make_town(providers=2), [0]

    def first_open(name: str, message: Message | Completion) -> bool:
        lost[0] += isinstance(message, Submit)
        return isinstance(message, Submit) and lost[0] in (1, 3, 4)

    lose(town, first_open)
    records = [start(town, "a"), start(town, "b")]
    town.run(lambda: all(record.is_final for record in records), 120)
    assert [(record.state, record.reason) for record in records] == [("settled", ""), ("settled", "")]


def test_a_restarted_steward_gives_no_sequence_away_twice(make_town: MakeTown) -> None:
    town = make_town(providers=1)
    lose(town, lambda name, message: isinstance(message, Submit))
    record = start(town, "a")
    citizen = town.replace_steward()
    town.command("steward", citizen.steward, lambda now: citizen.steward.restore([record], now))
    assert citizen.steward.sequence(citizen.identity.peer) == 1


def test_a_provider_finds_the_end_of_a_lease_in_its_own_ledger(make_town: MakeTown) -> None:
    town = make_town(providers=2)
    lose(town, lambda name, message: name.startswith("p") and tells_of(message, Verdict))
    record = start(town, "a")
    town.run(lambda: record.is_final, 60)
    providers = [citizen for name, citizen in town.citizens.items() if name.startswith("p")]
    town.run(lambda: not any(citizen.provider.leases for citizen in providers), 30)
    earned = [key for citizen in providers for key in citizen.records if key.startswith("earning/")]
    assert len(earned) == len(record.chunks)


def test_a_watcher_that_was_not_called_off_is_called_off_when_it_speaks(make_town: MakeTown) -> None:
    town = make_town(providers=3)
    for citizen in town.citizens.values():
        citizen.seconds = 5.0
    lost = [True]
    lose(town, lambda name, message: isinstance(message, Unwatch) and lost[0])
    record = start(town, "a")
    town.run(lambda: record.is_final, 120)
    watchers = watchers_of(town)
    assert sum(len(watcher) for watcher in watchers) > 0
    lost[0] = False
    town.run(lambda: not any(len(watcher) for watcher in watchers), 60)


def test_a_lie_that_only_the_ledger_tells_of_bars_as_well(make_town: MakeTown) -> None:
    town = make_town(providers=3)
    town.citizens["p0"].lies = True
    lose(town, lambda name, message: name == "steward" and tells_of(message, Verdict))
    record = start(town, "a", 6)
    town.run(lambda: record.is_final, 300)
    ends = {attempt.provider for chunk in record.chunks for attempt in chunk.attempts if attempt.end == "wrong"}
    assert ends
    assert ends == set(record.barred)


def test_a_steward_that_was_restarted_before_it_asked_for_watchers_asks_then(make_town: MakeTown) -> None:
    town = make_town(providers=3)
    for citizen in town.citizens.values():
        citizen.seconds = 100.0
    record = start(town, "a")
    town.run(lambda: any(chunk.is_leased for chunk in record.chunks), 30)
    assert not any(len(watcher) for watcher in watchers_of(town))
    fresh = town.replace_steward()
    town.command("steward", fresh.steward, lambda now: fresh.steward.restore([record], now))
    holder = next(chunk for chunk in record.chunks if chunk.is_leased)
    town.run(lambda: sum(len(watcher) for watcher in watchers_of(town)) >= 2, 10)
    town.citizens[town.name(PeerId(holder.provider))].is_dead = True
    town.run(lambda: holder.epoch == 2, 30)


def test_a_lease_that_was_ordered_late_is_counted_once(make_town: MakeTown) -> None:
    town = make_town(providers=2)
    record = start(town, "a", 4)
    town.run(lambda: any(chunk.state == "granted" for chunk in record.chunks), 30)
    town.slow["steward", "validator"] = 70 * SECOND
    town.run(lambda: not any(chunk.state == "granted" for chunk in record.chunks), 100)
    town.slow.clear()
    town.run(lambda: record.is_final, 600)
    job = town.citizens["steward"].steward.job(JobId(record.job))
    assert record.state == "settled"
    assert [bidder.leased for bidder in job.leasing.bidders.values()] == [0, 0]
