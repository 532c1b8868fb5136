"""Attack 51: a provider takes the job and lets somebody hidden compute it.

Out of scope, and documented: the result is as true as if the provider had computed it, so it is paid. Private jobs bind
the claim to trusted hardware of the provider itself.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from node.guest.work.scientific import Darts
from node.guest.work.tensors import encode
from protocol.errors import Refused
from protocol.quote_messages import binding
from protocol.units import PeerId
from tests.verifier.attestation import recorded
from verifier.attestation.policy import Policy, check

DOCUMENT = Path(__file__).parents[2] / "docs" / "rendering-and-science.md"
PROVIDER, HIDDEN = PeerId(b"\1" * 32), PeerId(b"\2" * 32)
QUOTE = recorded.tdx()
POLICY = Policy({"tdx": {QUOTE.measurement}})


def bound(peer: PeerId) -> bytes:
    return binding(peer, bytes(32), 0, 1, b"\3" * 32, b"\4" * 32)


def test_it_is_documented() -> None:
    text = " ".join(DOCUMENT.read_text(encoding="utf-8").split())
    assert "Who computed it is not proven" in text
    assert "bind the claim to trusted hardware" in text


def test_an_outsourced_result_is_the_same_result() -> None:
    """Nothing in a state says who computed it: an auditor finds the bytes equal, and the claim is accepted."""
    own, hired = Darts(1000), Darts(1000)
    states = [own.first()]
    for index in range(4):
        states.append(own.step(states[-1], index)[0])
    for index in (0, 3):
        again, _ = hired.replay(states[index], index, b"challenge")
        assert again is not None and encode(again) == encode(states[index + 1])


def test_a_private_job_takes_no_quote_of_another_machine() -> None:
    hired = replace(QUOTE, report_data=bound(HIDDEN) + bytes(32))
    with pytest.raises(Refused) as refused:
        check(POLICY, (hired,), bound(PROVIDER))
    assert refused.value.code == "stale_nonce"


def test_the_honest_twin_computes_it_itself() -> None:
    check(POLICY, (replace(QUOTE, report_data=bound(PROVIDER) + bytes(32)),), bound(PROVIDER))
