"""How safe a chunk is reaches its renter: the worker says it when it changes, the steward believes its own worker."""

from __future__ import annotations

from protocol.completions import NOT_PROTECTED, Guest
from protocol.effects import Send
from protocol.job_record import Attempt
from protocol.jobspec import Checkpoint, Chunk, JobSpec
from protocol.operations import Assign
from protocol.provider_lease import TOLD_AGAIN, WORDS_CHARS_MAX, Lease
from protocol.snapshots import Protection
from protocol.units import SECOND, Digest, Micros, PeerId

ME, STEWARD = PeerId(b"w" * 32), PeerId(b"s" * 32)
SPEC = JobSpec("job", "python", ("true",), (Chunk(),), checkpoint=Checkpoint())


def lease(secret: bytes = b"k" * 32) -> Lease:
    assign = Assign(b"e" * 32, 0, 2, ME, 10, 10, 10**12, 10**13, (STEWARD,))
    return Lease(
        Digest(bytes(32)),
        assign,
        b"j" * 16,
        STEWARD,
        PeerId(b"r" * 32),
        SPEC,
        (),
        (),
        "running",
        Micros(0),
        secret=secret,
    )


def told(one: Lease, now: int) -> Protection | None:
    effects = one.tidings(Micros(now))
    if not effects:
        return None
    (send,) = effects
    assert isinstance(send, Send) and send.peer == STEWARD and isinstance(send.message, Protection)
    return send.message


def test_nothing_is_told_before_there_is_something_to_tell() -> None:
    assert told(lease(), 5) is None


def test_a_change_is_told_once_and_again_after_a_while() -> None:
    one = lease()
    one.heard(Guest(one.task, "disabled", "an async for", 0), Micros(1))
    first = told(one, 1 * SECOND)
    assert first is not None and (first.reason, first.kept) == ("an async for", "")
    assert told(one, 2 * SECOND) is None
    assert told(one, 1 * SECOND + TOLD_AGAIN) == first


def test_reasons_are_joined_and_end_by_themselves() -> None:
    one = lease()
    one.heard(Guest(one.task, "running", f"{NOT_PROTECTED}weights differ", 7), Micros(1))
    one.words.custody = "receipts from 1 failure domains, 2 are needed"
    both = told(one, SECOND)
    assert both is not None and both.reason == "weights differ; receipts from 1 failure domains, 2 are needed"
    one.words.rehearsal = one.words.custody = ""
    one.words.kept = "kept by 3 peers in 3 failure domains"
    well = told(one, 2 * SECOND)
    assert well is not None and (well.reason, well.kept) == ("", "kept by 3 peers in 3 failure domains")


def test_a_reason_is_not_said_twice_and_fits_a_message() -> None:
    one = lease()
    one.words.hook, one.words.custody = "no loop", "no loop; nothing complete and new lies in /checkpoint"
    assert one.words.now[0] == one.words.custody
    one.words.custody = "x" * 1_000
    assert len(one.words.now[0]) == WORDS_CHARS_MAX


def test_a_job_without_snapshots_says_nothing() -> None:
    one = lease(secret=b"")
    one.words.hook = "no loop"
    assert told(one, SECOND) is None


def test_an_attempt_knows_when_it_stood_where_its_snapshot_was_taken() -> None:
    attempt = Attempt(2, ME, 100, step=50)
    for step, now in ((0, 110), (50, 120), (51, 130), (60, 140)):
        attempt.beat(step, now)
    assert (attempt.heard, attempt.reached, attempt.went_on) == (140, 60, 120)
    quick = Attempt(2, ME, 100, step=50)
    quick.beat(53, 110)
    assert quick.went_on == 110, "a step may be over before it is told of"
    fresh = Attempt(1, ME, 100)
    fresh.beat(9, 110)
    assert fresh.went_on == 0
