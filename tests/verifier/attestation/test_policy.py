"""Evidence is bound to one claim, and lowers the audit rate by half at most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.errors import Refused
from protocol.quote_messages import binding
from protocol.units import PeerId
from verifier.attestation.policy import Policy, attested_ppm, check
from verifier.attestation.quote import Quote

BOUND = binding(PeerId(bytes(32)), bytes(32), 3, 1, bytes(32), b"beacon")
CPU = Quote("tdx", b"m" * 48, BOUND + bytes(32), is_debug=False, versions=(5, 0))
GPU = Quote("nvidia", b"g" * 48, BOUND, is_debug=False, versions=())
POLICY = Policy({"tdx": {b"m" * 48}, "nvidia": {b"g" * 48}}, {"tdx": (5,)})


def refused(policy: Policy, *quotes: Quote, bound: bytes = BOUND) -> str:
    with pytest.raises(Refused) as error:
        check(policy, quotes, bound)
    return error.value.code


def test_both_quotes_of_this_claim_are_evidence() -> None:
    check(POLICY, (CPU, GPU), BOUND)


def test_what_is_missing_is_missed() -> None:
    assert refused(POLICY, CPU) == "missing_quote"
    assert refused(POLICY, GPU) == "missing_quote"
    check(Policy({"tdx": {b"m" * 48}}), (CPU,), BOUND)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"report_data": bytes(64)}, "stale_nonce"),
        ({"report_data": BOUND + bytes(31) + b"\1"}, "stale_nonce"),
        ({"is_debug": True}, "debug_machine"),
        ({"measurement": b"x" * 48}, "unknown_image"),
        ({"versions": (4, 9)}, "outdated_platform"),
        ({"versions": ()}, "outdated_platform"),
    ],
)
def test_what_does_not_hold(change: dict[str, object], code: str) -> None:
    assert refused(POLICY, replace(CPU, **change), GPU) == code  # type: ignore[arg-type]


def test_every_part_of_the_claim_binds() -> None:
    base = (PeerId(bytes(32)), bytes(32), 3, 1, bytes(32), b"beacon")
    others = [
        (PeerId(b"\1" * 32), *base[1:]), (*base[:1], b"\1" * 32, *base[2:]), (*base[:2], 4, *base[3:]),
        (*base[:3], 2, *base[4:]), (*base[:4], b"\1" * 32, base[5]), (*base[:5], b"later!"),
    ]  # fmt: skip
    assert len({binding(*base), *(binding(*other) for other in others)}) == 7


def test_the_floor_stands() -> None:
    assert attested_ppm(1_000_000, 100_000) == 500_000
    assert attested_ppm(100_000, 100_000) == 100_000
    assert attested_ppm(0, 100_000) == 0
