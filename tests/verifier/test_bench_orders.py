"""What an offer claims, the benchmark that fits it, and the time that an honest host has."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.bench_messages import ORDER_SIZE_MAX, PRODUCTS_MAX
from protocol.messages import Gpu
from protocol.units import SECOND
from tests.verifier.bench_stand import H100, offer
from verifier.bench_orders import CPU_SIZE, CPU_TARGET, SPARE, UNLISTED_GFLOPS, claimed, limit, order
from verifier.gpu_challenge import EFFICIENCY, STANDARD_SIZE


def test_claims() -> None:
    def card(name: str, gemm: int = 0) -> int:
        return claimed(offer(gpus=(Gpu("nvidia", name, 1, gemm, 0),)), "gpu")

    assert claimed(offer(cpu_gflops=12_000), "cpu") == 24_000
    assert claimed(offer(gpus=(H100,)), "gpu") == 1_979_000_000
    assert claimed(offer(gpus=(H100,)), "gpu", 1) == 0
    assert card("Tesla P40") == UNLISTED_GFLOPS * 1_000, "a known name without a data sheet"
    assert (card("Quantum 9000"), card("Quantum 9000", 5_000)) == (0, 5_000_000)


@given(claim=st.integers(1, 2**62))
def test_nobody_is_asked_for_more_than_its_claim_does_in_a_second(claim: int) -> None:
    asked = order(b"0" * 16, "cpu", 0, claim)
    assert asked.size == CPU_SIZE and 1 <= asked.count <= PRODUCTS_MAX
    work = 2 * CPU_SIZE**3 * asked.count
    assert asked.count == 1 or work <= (CPU_TARGET + 0.5) * claim * 1e6
    assert limit(asked, claim) >= SPARE + EFFICIENCY * work / claim


def test_the_card_of_the_fastest_data_sheet_has_little_more_than_its_host_needs() -> None:
    asked = order(b"0" * 16, "gpu", 0, 1_979_000_000)
    assert (asked.size, asked.count) == (STANDARD_SIZE, 1) and asked.size <= ORDER_SIZE_MAX
    assert SPARE + 0.95 * SECOND < limit(asked, 1_979_000_000) < SPARE + 1.05 * SECOND
