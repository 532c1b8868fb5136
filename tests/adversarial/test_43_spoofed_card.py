"""Attack 43: a machine without a card says that it has an H100.

Metadata counts for nothing: the benchmark's rows are committed within the time of the declared card. This machine's own
processor tries for real. Honest twin: what an H100 at a third of its peak takes, in its time.
"""

from __future__ import annotations

import time

import pytest

from protocol.errors import Refused
from protocol.units import SECOND
from verifier.gpu_challenge import Answer, Challenge, check, chosen, product, standard
from verifier.plausibility import Device

H100 = Device.of("H100").gflops
CHALLENGE = Challenge(b"fresh beacon, nobody knew".ljust(32), 512, 4)
LATER = b"a later beacon".ljust(32)
RTT = 0


LIMIT = standard(CHALLENGE.seed).limit(H100, RTT)


def code_of(answer: Answer, took: float) -> str:
    opened = [answer.open(leaf) for leaf in chosen(CHALLENGE, answer.root, LATER)]
    try:
        check(CHALLENGE, answer.root, LATER, opened, round(took), LIMIT)
    except Refused as error:
        return error.code
    return "ok"


def multiply() -> tuple[Answer, int]:
    """The products by this machine's processor, and the µs that they took."""
    factors = [(CHALLENGE.matrix(index, "a"), CHALLENGE.matrix(index, "b")) for index in range(CHALLENGE.count)]
    began = time.perf_counter()
    products = [product(left, right) for left, right in factors]
    return Answer(CHALLENGE, products), round((time.perf_counter() - began) * SECOND)


def test_a_processor_is_no_h100() -> None:
    answer, took = multiply()
    whole = standard(CHALLENGE.seed).gop / CHALLENGE.gop * took
    assert code_of(answer, whole) == "too_slow", "at its own pace it does not finish the standard benchmark in time"


@pytest.mark.parametrize("share", [0, 2])
def test_answering_in_time_with_what_is_not_there_is_found(share: int) -> None:
    answer, _ = multiply()
    guessed = [item.copy() for item in answer.products]
    for item in guessed[share:]:
        item[:] = 0
    assert code_of(Answer(CHALLENGE, guessed), 1) == "wrong_row"


def test_honest_twin_a_real_one_at_a_third_of_its_peak() -> None:
    answer, _ = multiply()
    whole = standard(CHALLENGE.seed)
    overhead = whole.limit(10**15, 0)
    assert code_of(answer, overhead + whole.gop * 3 * SECOND / H100) == "ok"
