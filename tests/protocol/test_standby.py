"""The peer that waits behind a running lease."""

from __future__ import annotations

import msgspec

from protocol.completions import Guest, RunDone
from protocol.effects import Compute, Effect, Emit, Park, Unpark
from protocol.identity import Identity
from protocol.jobspec import ZERO_DIGEST, Checkpoint, Chunk, JobSpec, Resources
from protocol.messages import JobNotice
from protocol.snapshots import StandBy, StandDown
from protocol.standby import STAND_MAX, Standby
from protocol.units import SECOND, Micros, PeerId

STEWARD, STRANGER = (Identity(bytes([number]) * 32).peer for number in (1, 2))
SPEC = JobSpec(name="job", runtime="python", commands=("true",), chunks=(Chunk(),) * 4, checkpoint=Checkpoint())
ORDER = StandBy(bytes(16), bytes(32), 0, 1, STRANGER, (), (STEWARD,))
NOW = Micros(SECOND)


class Host:
    """What the machine sees of its peer."""

    def __init__(self, room: int = 1, spec: JobSpec = SPEC) -> None:
        notice = JobNotice(1, 1, 1, bytes(16), STEWARD, bytes(32), 1, bytes(32), "job", "python", Resources(), 0, 1)
        self.room = room
        self.phases: dict[tuple[bytes, int], str] = {}
        self.machine = Standby(
            lambda job: (notice, STEWARD, spec) if job == bytes(16) else None,
            lambda: self.room,
            lambda job, chunk: self.phases.get((job, chunk), ""),
        )

    def hear(self, message: object, sender: PeerId = STEWARD, now: Micros = NOW) -> list[Effect]:
        return works(self.machine.receive(sender, message, now))  # type: ignore[arg-type]

    def tick(self, now: Micros = NOW) -> list[Effect]:
        return works(self.machine.tick(now))


def works(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, Compute)]


def another(chunk: int) -> StandBy:
    return msgspec.structs.replace(ORDER, chunk=chunk)


def test_an_order_parks_the_chunk_once_and_keeps_its_job_in_mind() -> None:
    host = Host()
    (parked,) = host.hear(ORDER)
    assert isinstance(parked, Compute) and isinstance(parked.work, Park)
    run = parked.work.run
    assert (run.spec, run.chunk, run.lease, run.secret, run.resume) == (SPEC, 0, None, b"", None)
    assert host.hear(ORDER) == [] and host.machine.jobs == {bytes(16)}


def test_it_says_when_it_is_ready() -> None:
    host = Host()
    host.hear(ORDER)
    (waiting,) = host.machine.waiting.values()
    (told,) = host.machine.receive(STEWARD, Guest(waiting.task, "parked", "", 0), NOW)
    assert isinstance(told, Emit) and told.name == "parked" and told.fields["epoch"] == 1
    assert host.machine.receive(STEWARD, Guest("another", "parked", "", 0), NOW) == []


def test_strange_orders_are_not_followed() -> None:
    host = Host()
    assert host.hear(ORDER, STRANGER) == []
    assert host.hear(msgspec.structs.replace(ORDER, job=bytes([1]) * 16)) == []
    assert host.hear(msgspec.structs.replace(ORDER, escrow=bytes([1]) * 32)) == []
    off = Host(spec=msgspec.structs.replace(SPEC, checkpoint=Checkpoint(is_on=False)))
    assert off.hear(ORDER) == [] and not off.machine.waiting


def test_a_stranger_cannot_call_it_off() -> None:
    host = Host()
    host.hear(ORDER)
    off = StandDown(bytes(16), 0, 1)
    assert host.hear(off, STRANGER) == []
    assert [type(one.work) for one in host.hear(off) if isinstance(one, Compute)] == [Unpark]
    assert host.hear(off) == [] and not host.machine.jobs


def test_it_parks_no_more_than_it_has_room_for() -> None:
    host = Host(room=2)
    assert len(host.hear(another(0)) + host.hear(another(1))) == 2
    assert host.hear(another(2)) == []
    host.room = 1  # Real work came.
    assert len(host.tick()) == 1 and host.tick() == []


def test_its_own_takeover_keeps_the_parked_process() -> None:
    host = Host()
    host.hear(ORDER)
    host.room, host.phases[bytes(16), 0] = 0, "countersigned"
    assert host.tick() == [] and host.machine.waiting
    host.phases[bytes(16), 0] = "running"
    assert host.tick() == [] and not host.machine.waiting


def test_a_parked_process_that_ended_is_parked_again_with_the_next_epoch() -> None:
    for message in (
        Guest("park-0000000000000000-0", "disabled", "why", 0),
        RunDone("park-0000000000000000-0", "exit", 1, ZERO_DIGEST, 0, 0.0, ""),
    ):
        host = Host()
        host.hear(ORDER)
        host.hear(message)
        assert host.hear(ORDER) == []  # The same epoch: it would end the same way.
        assert len(host.hear(msgspec.structs.replace(ORDER, epoch=2))) == 1


def test_a_parked_process_serves_every_epoch() -> None:
    host = Host()
    host.hear(ORDER)
    assert host.hear(msgspec.structs.replace(ORDER, epoch=2)) == []
    assert host.machine.waiting[bytes(16), 0].order.epoch == 2


def test_nobody_waits_for_ever() -> None:
    host = Host()
    host.hear(ORDER)
    host.hear(ORDER, now=Micros(NOW + STAND_MAX // 2))
    assert host.tick(Micros(NOW + STAND_MAX)) == []
    assert len(host.tick(Micros(NOW + STAND_MAX // 2 + STAND_MAX))) == 1
    assert not host.machine.waiting
