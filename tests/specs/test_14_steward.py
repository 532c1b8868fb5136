"""specs/14-steward.md against protocol.steward, job, leasing and granting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import extension, granting, job, leasing, overturned, shortfall, steward
from protocol.job_record import JobRecord
from protocol.units import Micros
from tests.protocol.town import job_spec

SPEC = specs.load("14-steward")


def test_constants_are_those_of_the_code() -> None:
    found = {}
    for module in (extension, granting, job, leasing, overturned, shortfall, steward):
        found.update({name: getattr(module, name) for name in SPEC.constants if hasattr(module, name)})
    assert found == SPEC.constants


@given(price=st.integers(0, 10**12), estimate=st.integers(1, 10**11))
def test_price_rule(price: int, estimate: int) -> None:
    assert SPEC.functions["chunk_price"](price, estimate) == granting.chunk_price(price, Micros(estimate))


@given(cap=st.integers(1, 2**61), more=st.integers(1, 2**61), deadline=st.integers(0, 2**61))
def test_extension_rule(cap: int, more: int, deadline: int) -> None:
    record = JobRecord(
        bytes(16), bytes(32), "k", job_spec(1), bytes(32), 1, 0, 0, cap, 1, [], state="running", deadline=deadline
    )
    op = extension.operation(record, extension.check(record, cap + more, more), 0)
    assert (op.amount, op.deadline) == SPEC.functions["extension"](cap, cap + more, deadline)
