"""The auditor: executes what validators ask for, seals, opens when told."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol import operations, wire
from protocol.completions import Fetched, FetchFailed, RunDone
from protocol.effects import Compute, Effect, Fetch, Forget, Run, Send
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.greetings import Goodbye
from protocol.identity import Identity
from protocol.jobspec import ZERO_DIGEST, Chunk, JobSpec
from protocol.messages import AuditCommit, AuditOpenRequest, AuditRequest, AuditReveal
from protocol.proof import Leaf
from protocol.units import SECOND, Digest, Micros, PeerId
from verifier.auditor import FETCH_AGAIN, FETCH_TRIES, KEEP, QUEUE_MAX, Auditor

NOW = Micros(1_000_000 * SECOND)
ME, JUDGE, SECOND_JUDGE, STRANGER = (Identity(bytes([n]) * 32) for n in range(1, 5))
SPEC = JobSpec(name="job", runtime="python", commands=("true",), chunks=(Chunk(),) * 8)
BLOB = wire.encode(SPEC)
DIGEST = wire.digest(BLOB)
OUTPUT = Digest(b"o" * 32)


def request(chunk: int = 0, epoch: int = 1, spec: Digest = DIGEST) -> AuditRequest:
    return AuditRequest(b"e" * 32, chunk, epoch, spec, len(BLOB), (), (STRANGER.peer,), STRANGER.peer)


def opening(chunk: int = 0, epoch: int = 1) -> AuditOpenRequest:
    return AuditOpenRequest(b"e" * 32, chunk, epoch)


def auditor(blob: bytes = BLOB, slots: int = 1) -> Auditor:
    return Auditor(ME, "test", lambda: (JUDGE.peer, SECOND_JUDGE.peer), lambda _: blob, slots)


def runs(effects: list[Effect]) -> list[Run]:
    return [effect.work for effect in effects if isinstance(effect, Compute) and isinstance(effect.work, Run)]


def sends(effects: list[Effect], kind: type) -> list[tuple[PeerId, object]]:
    return [
        (effect.peer, effect.message)
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, kind)
    ]


def done(task: str, reason: str = "ok", output: Digest = OUTPUT) -> RunDone:
    return RunDone(task, reason, 0, output, 10, 0.1, "it said so")


def test_request_run_seal_open() -> None:
    machine = auditor()
    asked = machine.receive(JUDGE.peer, request(), NOW)
    assert asked == [Compute(Fetch(DIGEST, len(BLOB), (STRANGER.peer,)))]
    (run,) = runs(machine.receive(ME.peer, Fetched(DIGEST, len(BLOB)), NOW))
    assert (run.spec, run.chunk, run.sources, run.renter) == (SPEC, 0, (STRANGER.peer,), STRANGER.peer)
    with pytest.raises(Refused, match="not sealed"):
        machine.receive(JUDGE.peer, opening(), NOW)
    ((to, commit),) = sends(machine.receive(ME.peer, done(run.task), NOW), AuditCommit)
    ((back, reveal),) = sends(machine.receive(JUDGE.peer, opening(), NOW), AuditReveal)
    assert to == back == JUDGE.peer
    assert isinstance(commit, AuditCommit)
    assert isinstance(reveal, AuditReveal)
    assert (reveal.output, reveal.reason) == (OUTPUT, "ok")
    assert commit.sealed == operations.seal(ME.peer, reveal.salt, OUTPUT)


def test_several_validators_share_one_execution_and_each_opens_for_itself() -> None:
    machine = auditor()
    machine.receive(JUDGE.peer, request(), NOW)
    assert machine.receive(SECOND_JUDGE.peer, request(), NOW) == []
    (run,) = runs(machine.receive(ME.peer, Fetched(DIGEST, 1), NOW))
    commits = sends(machine.receive(ME.peer, done(run.task), NOW), AuditCommit)
    assert {to for to, _ in commits} == {JUDGE.peer, SECOND_JUDGE.peer}
    machine.receive(JUDGE.peer, opening(), NOW)
    again = sends(machine.receive(SECOND_JUDGE.peer, request(), NOW), AuditCommit)
    assert again == [commit for commit in commits if commit[0] == SECOND_JUDGE.peer]
    assert sends(machine.receive(SECOND_JUDGE.peer, opening(), NOW), AuditReveal)


def test_asked_again_after_opening_it_executes_again_under_another_salt() -> None:
    machine = auditor()
    salts = []
    for _ in range(2):
        machine.receive(JUDGE.peer, request(), NOW)
        (run,) = runs(machine.receive(ME.peer, Fetched(DIGEST, 1), NOW))
        machine.receive(ME.peer, done(run.task), NOW)
        ((_, reveal),) = sends(machine.receive(JUDGE.peer, opening(), NOW), AuditReveal)
        assert isinstance(reveal, AuditReveal)
        salts.append(reveal.salt)
    assert salts[0] != salts[1]


@pytest.mark.parametrize("reason", ["exit", "timeout", "memory", "sandbox", "inputs"])
def test_a_failed_execution_is_sealed_zeros_and_says_why(reason: str) -> None:
    machine = auditor()
    machine.receive(JUDGE.peer, request(), NOW)
    (run,) = runs(machine.receive(ME.peer, Fetched(DIGEST, 1), NOW))
    assert sends(machine.receive(ME.peer, done(run.task, reason), NOW), AuditCommit)
    ((_, reveal),) = sends(machine.receive(JUDGE.peer, opening(), NOW), AuditReveal)
    assert isinstance(reveal, AuditReveal)
    assert (reveal.output, reveal.reason) == (ZERO_DIGEST, f"{reason}: it said so")


def test_a_specification_out_of_reach_is_tried_again_then_given_up() -> None:
    machine, now = auditor(), NOW
    machine.receive(JUDGE.peer, request(), now)
    for _ in range(FETCH_TRIES - 1):
        machine.receive(ME.peer, FetchFailed(DIGEST, "nobody has it"), now)
        now = Micros(now + FETCH_AGAIN)
        assert Compute(Fetch(DIGEST, len(BLOB), (STRANGER.peer,))) in machine.tick(now)
    assert sends(machine.receive(ME.peer, FetchFailed(DIGEST, "nobody has it"), now), AuditCommit)
    ((_, reveal),) = sends(machine.receive(JUDGE.peer, opening(), now), AuditReveal)
    assert isinstance(reveal, AuditReveal)
    assert reveal.reason == "inputs: nobody has it"


@pytest.mark.parametrize(("blob", "chunk", "why"), [(b"\xc1", 0, "bad_spec"), (BLOB, 8, "no_such_chunk")])
def test_what_cannot_be_executed_is_sealed_as_such(blob: bytes, chunk: int, why: str) -> None:
    machine = auditor(blob)
    machine.receive(JUDGE.peer, request(chunk), NOW)
    assert sends(machine.receive(ME.peer, Fetched(DIGEST, 1), NOW), AuditCommit)
    ((_, reveal),) = sends(machine.receive(JUDGE.peer, opening(chunk), NOW), AuditReveal)
    assert isinstance(reveal, AuditReveal)
    assert reveal.reason.startswith(why)


def test_strangers_and_contradictions() -> None:
    machine = auditor()
    with pytest.raises(RemoteViolation) as caught:
        machine.receive(STRANGER.peer, request(), NOW)
    assert caught.value.code == "not_a_validator"
    machine.receive(JUDGE.peer, request(), NOW)
    with pytest.raises(RemoteViolation) as caught:
        machine.receive(JUDGE.peer, request(spec=Digest(b"x" * 32)), NOW)
    assert caught.value.code == "other_inputs"
    with pytest.raises(Refused, match="no audit"):
        machine.receive(SECOND_JUDGE.peer, opening(), NOW)
    with pytest.raises(LocalError):
        machine.receive(JUDGE.peer, Goodbye("x"), NOW)
    assert machine.receive(ME.peer, done("another's task"), NOW) == []
    assert machine.receive(ME.peer, Fetched(OUTPUT, 1), NOW) == []


def of_units(*indices: int, chunk: int = 0, seed: bytes = b"s" * 32) -> AuditRequest:
    leaves = tuple(Leaf(index, b"l" * 32, 9, ZERO_DIGEST, ZERO_DIGEST, 0) for index in indices)
    return msgspec.structs.replace(request(chunk), units=leaves, seed=seed)


def of_check(result: Digest = OUTPUT, sources: tuple[PeerId, ...] = (STRANGER.peer,)) -> AuditRequest:
    return msgspec.structs.replace(request(), result=result, sources=sources)


def test_units_and_the_challenge_reach_the_one_who_replays() -> None:
    machine = auditor()
    machine.receive(JUDGE.peer, of_units(2, 5), NOW)
    (run,) = runs(machine.receive(ME.peer, Fetched(DIGEST, len(BLOB)), NOW))
    assert [leaf.index for leaf in run.units] == [2, 5]
    assert (run.seed, run.result) == (b"s" * 32, ZERO_DIGEST)


def test_a_check_runs_over_the_named_output_which_its_askers_have() -> None:
    machine = auditor()
    machine.receive(JUDGE.peer, of_check(), NOW)
    assert machine.receive(SECOND_JUDGE.peer, of_check(sources=(ME.peer,)), NOW) == [], "the same from other sources"
    (run,) = runs(machine.receive(ME.peer, Fetched(DIGEST, len(BLOB)), NOW))
    assert run.result == OUTPUT
    assert run.sources == (STRANGER.peer, *sorted((JUDGE.peer, SECOND_JUDGE.peer)))
    ((_, commit), *_) = sends(machine.receive(ME.peer, done(run.task), NOW), AuditCommit)
    ((_, reveal),) = sends(machine.receive(JUDGE.peer, opening(), NOW), AuditReveal)
    assert isinstance(commit, AuditCommit) and isinstance(reveal, AuditReveal)
    assert commit.sealed == operations.seal(ME.peer, reveal.salt, OUTPUT)


def test_output_files_are_made_of_a_last_state_which_its_askers_have() -> None:
    machine = auditor()
    last = Leaf(8, b"l" * 32, 9, ZERO_DIGEST, ZERO_DIGEST, 0)
    asked = msgspec.structs.replace(request(), last=last)
    machine.receive(JUDGE.peer, asked, NOW)
    (run,) = runs(machine.receive(ME.peer, Fetched(DIGEST, len(BLOB)), NOW))
    assert (run.last, run.units, run.result) == (last, (), ZERO_DIGEST)
    assert run.sources == (STRANGER.peer, JUDGE.peer)
    machine.receive(ME.peer, done(run.task), NOW)
    ((_, reveal),) = sends(machine.receive(JUDGE.peer, opening(), NOW), AuditReveal)
    assert isinstance(reveal, AuditReveal)
    assert reveal.output == OUTPUT
    other = msgspec.structs.replace(asked, last=msgspec.structs.replace(last, state=b"m" * 32))
    machine.receive(SECOND_JUDGE.peer, other, NOW)
    assert len(machine) == 1, "of another state it is another question, asked when the first is answered"


def test_the_work_and_the_check_of_one_chunk_are_opened_in_turn() -> None:
    machine = auditor(slots=2)
    machine.receive(JUDGE.peer, of_units(1), NOW)
    (work,) = runs(machine.receive(ME.peer, Fetched(DIGEST, 1), NOW))
    machine.receive(ME.peer, done(work.task, output=Digest(b"r" * 32)), NOW)
    opened = []
    for asked in (None, of_check()):
        if asked is not None:
            machine.receive(JUDGE.peer, asked, NOW)
            (check,) = runs(machine.receive(ME.peer, Fetched(DIGEST, 1), NOW))
            machine.receive(ME.peer, done(check.task), NOW)
        ((_, reveal),) = sends(machine.receive(JUDGE.peer, opening(), NOW), AuditReveal)
        assert isinstance(reveal, AuditReveal)
        opened.append((reveal.output, reveal.salt))
    assert [output for output, _ in opened] == [b"r" * 32, OUTPUT]
    assert opened[0][1] != opened[1][1]


def test_other_units_of_a_chunk_are_taken_only_when_the_first_are_opened() -> None:
    """A court of appeal asks anew; a judge that asks for two things at once contradicts itself."""
    machine = auditor()
    machine.receive(JUDGE.peer, of_units(1), NOW)
    with pytest.raises(RemoteViolation) as caught:
        machine.receive(SECOND_JUDGE.peer, of_units(2), NOW)
    assert caught.value.code == "other_inputs"
    (run,) = runs(machine.receive(ME.peer, Fetched(DIGEST, 1), NOW))
    machine.receive(ME.peer, done(run.task), NOW)
    machine.receive(JUDGE.peer, opening(), NOW)
    machine.receive(SECOND_JUDGE.peer, of_units(2), NOW)
    (again,) = runs(machine.receive(ME.peer, Fetched(DIGEST, 1), NOW))
    assert [leaf.index for leaf in again.units] == [2]
    assert again.task != run.task
    machine.receive(ME.peer, done(again.task), NOW)
    assert Compute(Forget(OUTPUT)) in machine.tick(Micros(NOW + KEEP)), "nobody will ask for its states any more"


def test_the_queue_is_bounded_and_old_results_are_forgotten() -> None:
    machine = auditor(slots=QUEUE_MAX)
    for chunk in range(QUEUE_MAX):
        machine.receive(JUDGE.peer, request(chunk % 8, 1 + chunk // 8), NOW)
    with pytest.raises(Refused) as caught:
        machine.receive(JUDGE.peer, request(0, 999), NOW)
    assert caught.value.code == "queue_full"
    for run in runs(machine.receive(ME.peer, Fetched(DIGEST, 1), NOW)):
        machine.receive(ME.peer, done(run.task), NOW)
    machine.tick(Micros(NOW + KEEP))
    assert len(machine) == 0


def test_a_validator_that_asks_for_everything_gives_way_to_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verifier.auditor.QUEUE_MAX", 6)
    machine = auditor()
    machine.receive(JUDGE.peer, request(0), NOW)
    (run,) = runs(machine.receive(ME.peer, Fetched(DIGEST, 1), NOW))
    for chunk in range(1, 6):
        machine.receive(JUDGE.peer, request(chunk), Micros(NOW + chunk))
    machine.receive(SECOND_JUDGE.peer, request(1), NOW)
    assert runs(machine.receive(ME.peer, Fetched(DIGEST, 1), NOW)) == [], "five are queued behind the one that runs"
    for epoch in (2, 3, 4):  # Its share is half of six.
        effects = machine.receive(SECOND_JUDGE.peer, request(0, epoch), NOW)
        assert effects[0] == Compute(Fetch(DIGEST, len(BLOB), (STRANGER.peer,)))
    with pytest.raises(Refused, match="waiting already"):
        machine.receive(SECOND_JUDGE.peer, request(0, 5), NOW)
    with pytest.raises(Refused, match="waiting already"):
        machine.receive(JUDGE.peer, request(0, 5), NOW)
    assert len(machine) == 6
    machine.receive(ME.peer, Fetched(DIGEST, 1), NOW)
    ran = [(run.chunk, run.task.split("-")[3])]
    while True:
        further = runs(machine.receive(ME.peer, done(run.task), NOW))
        if not further:
            break
        (run,) = further
        ran.append((run.chunk, run.task.split("-")[3]))
    assert ran == [(0, "1"), (1, "1"), (5, "1"), (0, "2"), (0, "3"), (0, "4")], "the oldest that nobody else wants go"


class AuditorMachine(RuleBasedStateMachine):
    """Any order of requests, arrivals and openings: never more runs than slots, every seal opens to what ran."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = auditor(slots=2)
        self.now = NOW
        self.running: dict[str, int] = {}
        self.seals: dict[tuple[PeerId, int], bytes] = {}
        self.ran: dict[int, Digest] = {}

    def note(self, effects: list[Effect]) -> None:
        for run in runs(effects):
            assert run.task not in self.running
            self.running[run.task] = run.chunk
        for to, message in sends(effects, AuditCommit):
            assert isinstance(message, AuditCommit)
            self.seals[to, message.chunk] = message.sealed
        for to, message in sends(effects, AuditReveal):
            assert isinstance(message, AuditReveal)
            assert operations.seal(ME.peer, message.salt, Digest(message.output)) == self.seals[to, message.chunk]
            assert message.output == self.ran[message.chunk]

    @rule(chunk=st.integers(0, 5), judge=st.sampled_from((JUDGE.peer, SECOND_JUDGE.peer)))
    def ask(self, chunk: int, judge: PeerId) -> None:
        self.note(self.machine.receive(judge, request(chunk), self.now))

    @rule()
    def fetched(self) -> None:
        self.note(self.machine.receive(ME.peer, Fetched(DIGEST, 1), self.now))

    @rule()
    def not_fetched(self) -> None:
        self.note(self.machine.receive(ME.peer, FetchFailed(OUTPUT, "of no concern"), self.now))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), output=st.binary(min_size=32, max_size=32))
    def finish(self, data: st.DataObject, output: bytes) -> None:
        task = data.draw(st.sampled_from(sorted(self.running)))
        self.ran[self.running.pop(task)] = Digest(output)
        self.note(self.machine.receive(ME.peer, done(task, "ok", Digest(output)), self.now))

    @rule(chunk=st.integers(0, 5), judge=st.sampled_from((JUDGE.peer, SECOND_JUDGE.peer)))
    def open(self, chunk: int, judge: PeerId) -> None:
        try:
            self.note(self.machine.receive(judge, opening(chunk), self.now))
        except Refused as refusal:
            assert refusal.code in ("no_audit", "too_early")

    @rule(span=st.integers(0, 30 * SECOND))
    def wait(self, span: int) -> None:
        self.now = Micros(self.now + span)
        self.note(self.machine.tick(self.now))

    @invariant()
    def slots_hold(self) -> None:
        assert self.machine.running == len(self.running) <= 2


TestAuditorMachine = AuditorMachine.TestCase
