"""What a step reads of earlier ones: a judge asks as court and witness do, and wants all of it accepted now."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.escrow_state import ChunkLease, ChunkState
from protocol.jobspec import Chunk, JobSpec
from protocol.units import Digest
from tests.protocol.ledger_world import PROVIDERS, RENTER, STEWARD, VALIDATOR, World, open_escrow, settle, verdict
from verifier.bench import Bench
from verifier.views import Facts, outputs_read

CHUNKS = 3
SPEC = JobSpec("x", "python", ("a",), tuple(Chunk() for _ in range(CHUNKS)), reduce=("true",))
FACTS = Facts.of(Digest(bytes(32)), 1, SPEC)

STATES: tuple[ChunkState, ...] = ("free", "assigned", "claimed", "paid")
LEASES = st.tuples(st.sampled_from([*STATES, "paid", "paid"]), st.sampled_from([b"", b"o" * 32, b"q" * 32]))


def bench(world: World) -> Bench:
    return Bench(VALIDATOR, "test", lambda: world.ledger, lambda: (), lambda *_: {}, lambda digest: b"")


@given(found=st.dictionaries(st.integers(0, CHUNKS), LEASES, max_size=CHUNKS + 1))
def test_it_is_what_the_others_read_where_all_of_it_is_accepted(found: dict[int, tuple[ChunkState, bytes]]) -> None:
    world = World()
    key = world.ok(open_escrow(), RENTER)
    escrow = world.ledger.escrows[key]
    escrow.chunks = {index: ChunkLease(index, 1, state, output=output) for index, (state, output) in found.items()}
    said = bench(world).outputs(key, CHUNKS, FACTS)
    is_accepted = all(index in found and found[index][0] == "paid" for index in range(CHUNKS))
    assert said == (outputs_read(escrow, CHUNKS, CHUNKS) if is_accepted else None)
    assert said is None or said == tuple(found[index][1] for index in range(CHUNKS))
    assert bench(world).outputs(key, 1, FACTS) == ()


def test_a_chunk_that_was_paid_without_a_result_gives_nothing_to_read() -> None:
    world = World()
    key, facts = world.claimed(), Facts.of(Digest(bytes(32)), 1, replace(SPEC, chunks=(Chunk(),)))
    world.ok(verdict(key), VALIDATOR)
    assert bench(world).outputs(key, 1, facts) == (b"o" * 32,)
    other = world.claimed()
    world.ok(settle(other, 10), STEWARD, PROVIDERS[0])
    assert bench(world).outputs(other, 1, facts) is None
