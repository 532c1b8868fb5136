"""Attack 42: answers that were computed beforehand, or came faster than anything computes.

Too fast is flagged and audited wholly, never slashed; a benchmark's matrices come from a beacon, so that nothing can be
stored. Honest twin: a quick card, and several of them.
"""

from __future__ import annotations

import pytest

from protocol.errors import Refused
from protocol.units import PPM, SECOND, Micros
from tests.verifier.test_gpu_challenge import BEACON, SMALL, honest
from verifier.gpu_challenge import Answer, Challenge, check, chosen
from verifier.plausibility import Counts, Device, Receipts, judge, raised

NOW = Micros(10**15)
COUNTS = Counts(gflop=50_000_000, moved_bytes=10**12)


def speed(seconds: float, count: int = 1, bench: int = 0) -> str:
    return judge(COUNTS, count, Receipts(NOW, Micros(NOW + round(seconds * SECOND)), 40_000), bench)


def test_faster_than_the_fastest_is_flagged_and_always_audited() -> None:
    assert speed(0.9) == "impossible_speed"
    assert raised(100_000, "impossible_speed") == PPM


def test_faster_than_its_own_benchmark_is_looked_at_more_often() -> None:
    assert speed(40, bench=60 * SECOND) == "fast"
    assert raised(100_000, "fast") == 200_000


def test_an_answer_from_the_store_is_to_another_question() -> None:
    stored = honest()
    fresh = Challenge(b"fresh" * 6, SMALL.size, SMALL.count)
    replayed = Answer(fresh, stored.products)
    opened = [replayed.open(leaf) for leaf in chosen(fresh, replayed.root, BEACON)]
    with pytest.raises(Refused) as caught:
        check(fresh, replayed.root, BEACON, opened, 0, 1)
    assert caught.value.code == "wrong_row"


def test_honest_twin_quick_cards_are_plausible() -> None:
    assert speed(1.1) == "plausible"
    assert speed(0.2, count=8) == "plausible"
    h100 = Device.of("H100")
    assert judge(COUNTS, 1, Receipts(NOW, Micros(NOW + 40 * SECOND), 0), 45 * SECOND, h100) == "plausible"
