"""The witness: what it executes for whom, what it refuses, and when it forgets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Final, cast

import pytest
from msgspec.structs import replace

from protocol import wire
from protocol.completions import Fetched, FetchFailed, RunDone
from protocol.effects import Compute, Effect, Emit, Fetch, Forget, Run, Store
from protocol.errors import LocalError, Refused
from protocol.held import Held, held_id
from protocol.jobspec import ZERO_DIGEST, Chunk, JobSpec
from protocol.ledger import Ledger
from protocol.messages import Submit
from protocol.prefix import first_units
from protocol.proof import Proof, Tolerance, Trace
from protocol.trace import TraceTree
from protocol.units import Digest, Micros, PeerId
from tests.verifier.appeals import BAD, GOOD, TRUTH, UNITS, execution
from verifier.case import Place
from verifier.witness import WAITING_MAX, Witness

ME, PROVIDER, STEWARD, RENTER = (PeerId(bytes([n]) * 32) for n in range(1, 5))
ESCROW: Final = b"e" * 32
NOW: Final = Micros(10**15)
JOB: Final = JobSpec("job", "wasm", ("true",), (Chunk(),) * 9, numeric="D0", proof=Proof("deterministic", UNITS))


class Bench:
    """A witness, and the part of a ledger that it reads: every chunk of one job is held."""

    def __init__(self, job: JobSpec = JOB) -> None:
        self.blobs: dict[bytes, bytes] = {}
        self.spec = self.keep(wire.encode(job))
        escrow = SimpleNamespace(spec=self.spec, steward=STEWARD, owner=RENTER, chunks={})
        self.held = {held_id(ESCROW, chunk, 1): self.claim(execution(7)) for chunk in range(12)}
        ledger = SimpleNamespace(escrows={ESCROW: escrow}, held=self.held)
        self.chunks = escrow.chunks
        self.ledger = cast("Ledger", ledger)
        self.witness = Witness(ME, lambda: self.ledger, self.blobs.__getitem__)

    def keep(self, data: bytes) -> Digest:
        self.blobs[wire.digest(data)] = data
        return wire.digest(data)

    @staticmethod
    def claim(trace: Trace, output: Digest = BAD, end: str = "") -> Held:
        root = TraceTree(trace).root
        return cast("Held", SimpleNamespace(trace=root, output=output, payee=PROVIDER, end=end))

    def order(self, chunk: int = 0) -> Place:
        place = (ESCROW, chunk, 1)
        for effect in self.witness.replay(place, NOW):
            assert effect == Compute(Fetch(self.spec, 16 << 20, (STEWARD, PROVIDER)))
        return place

    def bring(self) -> list[Run]:
        """The specification is here; what is to run."""
        return runs(self.witness.receive(ME, Fetched(self.spec, 10), NOW))

    def end(self, run: Run, trace: Trace | None = TRUTH, output: Digest = GOOD, reason: str = "ok") -> list[Effect]:
        digest = self.keep(wire.encode(trace)) if trace is not None else ZERO_DIGEST
        return self.witness.receive(ME, RunDone(run.task, reason, 0, output, 1, 1.0, "why", digest), NOW)

    def phase(self, place: Place) -> tuple[str, str]:
        known = self.witness.find(place)
        assert known is not None
        return known.phase, known.why


def runs(effects: list[Effect]) -> list[Run]:
    return [item.work for item in effects if isinstance(item, Compute) and isinstance(item.work, Run)]


def test_one_runs_at_a_time_and_what_it_got_is_kept() -> None:
    bench = Bench()
    places = [bench.order(chunk) for chunk in (0, 1)]
    [run] = bench.bring()
    assert (run.chunk, run.units, run.sources, run.renter, run.lease) == (0, (), (STEWARD, PROVIDER), RENTER, None)
    ended = bench.end(run)
    assert [item.key for item in ended if isinstance(item, Store)] == [f"rival/{ESCROW.hex()}-0-1"]
    assert [item.fields["phase"] for item in ended if isinstance(item, Emit)] == ["done"]
    [following] = runs(ended)
    assert following.chunk == 1
    own = bench.witness.find(places[0])
    assert own is not None and own.root == TraceTree(TRUTH).root
    assert bench.blobs[bench.witness.by_root[own.root]] == wire.encode(TRUTH)
    assert bench.order(0) == places[0], "once is enough"


@pytest.mark.parametrize(
    ("trace", "output", "agrees"),
    [(TRUTH, GOOD, True), (TRUTH, BAD, False), (execution(7), GOOD, False), (TRUTH, ZERO_DIGEST, True)],
)
def test_it_agrees_where_trace_and_output_are_the_claims(trace: Trace, output: Digest, agrees: bool) -> None:
    bench = Bench()
    place = bench.order()
    bench.end(bench.bring()[0])
    own = bench.witness.find(place)
    assert own is not None and own.agrees(bench.claim(trace, output)) == agrees


def test_a_job_without_units_is_compared_by_its_output() -> None:
    bench = Bench(replace(JOB, proof=Proof("deterministic")))
    place = bench.order()
    bench.end(bench.bring()[0], None)
    own = bench.witness.find(place)
    assert own is not None and own.root == ZERO_DIGEST and not bench.witness.by_root
    for output, agrees in ((GOOD, True), (BAD, False), (ZERO_DIGEST, False)):
        assert own.agrees(cast("Held", SimpleNamespace(trace=b"", output=output))) == agrees


def test_the_reduce_step_reads_what_the_ledger_names() -> None:
    bench = Bench(replace(JOB, reduce=("true",)))
    place = bench.order(9)
    assert bench.bring() == [] and bench.phase(place) == ("failed", "inputs_missing")
    bench.chunks |= {index: SimpleNamespace(output=bytes([index + 1]) * 32) for index in range(9)}
    bench.order(9)
    [run] = bench.bring()
    assert run.outputs == tuple(bytes([index + 1]) * 32 for index in range(9))


@pytest.mark.parametrize(
    "job",
    [
        replace(JOB, numeric="D3", proof=Proof("training", UNITS, tolerance=Tolerance(1000, 10_000))),
        replace(JOB, proof=Proof("certificate", check=("true",))),
    ],
)
def test_where_honest_runs_differ_an_own_one_proves_nothing(job: JobSpec) -> None:
    bench = Bench(job)
    place = bench.order()
    assert bench.bring() == [] and bench.phase(place) == ("failed", "not_comparable")


def test_every_way_to_fail_is_told_and_may_be_tried_again() -> None:
    bench = Bench()
    place = bench.order()
    bench.witness.receive(ME, FetchFailed(bench.spec, "gone"), NOW)
    assert bench.phase(place) == ("failed", "inputs")
    bench.order()
    data, bench.blobs[bench.spec] = bench.blobs[bench.spec], b"none"
    assert bench.bring() == [] and bench.phase(place) == ("failed", "bad_spec")
    bench.blobs[bench.spec] = data
    bench.order()
    assert bench.end(bench.bring()[0], None, ZERO_DIGEST, "timeout")
    assert bench.phase(place) == ("failed", "timeout: why")
    assert bench.witness.receive(ME, RunDone("another", "ok", 0, GOOD, 1, 1.0, ""), NOW) == []


@pytest.mark.parametrize("wrong", [b"none", wire.encode(first_units(TRUTH, UNITS - 1)), wire.encode(Trace((), b""))])
def test_a_program_whose_trace_is_none_has_failed_and_others_follow(wrong: bytes) -> None:
    bench = Bench()
    place = bench.order(0)
    bench.order(1)
    [run] = bench.bring()
    bad = bench.keep(wrong)
    ended = bench.witness.receive(ME, RunDone(run.task, "ok", 0, GOOD, 1, 1.0, "", bad), NOW)
    phase, why = bench.phase(place)
    assert phase == "failed" and why.startswith("trace: ")
    assert Compute(Forget(bad)) in ended and not bench.witness.by_root
    assert [one.chunk for one in runs(ended)] == [1]


def test_what_is_final_before_its_turn_is_not_executed() -> None:
    bench = Bench()
    place = bench.order()
    del bench.held[held_id(*place)]
    assert bench.bring() == []
    assert bench.phase(place) == ("failed", "not_held")


def test_only_what_can_be_contested_is_executed_and_not_without_end() -> None:
    bench = Bench()
    with pytest.raises(Refused) as caught:
        bench.order(40)
    assert caught.value.code == "not_held"
    for chunk in range(WAITING_MAX):
        bench.order(chunk)
    with pytest.raises(Refused) as caught:
        bench.order(WAITING_MAX)
    assert caught.value.code == "queue_full"
    with pytest.raises(LocalError):
        bench.witness.receive(ME, Submit(()), NOW)


def test_it_is_forgotten_when_the_claim_is_final() -> None:
    bench = Bench()
    place = bench.order()
    bench.end(bench.bring()[0])
    own = bench.witness.find(place)
    assert own is not None and bench.witness.tick(NOW) == []
    bench.held[held_id(*place)] = bench.claim(TRUTH, end="paid")
    assert bench.witness.tick(NOW) == [Store(f"rival/{ESCROW.hex()}-0-1", None), Compute(Forget(own.trace))]
    assert bench.witness.find(place) is None and not bench.witness.by_root
