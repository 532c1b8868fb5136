"""Attack 52: a forged, old or relayed quote of trusted hardware.

The defence: nonce and node key in the quote, the maker's chain and its own enclave, a revocation list; and evidence
never replaces audits. The end-to-end twin is tests/end_to_end/test_hardware.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.errors import Refused
from protocol.messages import AuditRequest, RevealRequest
from protocol.quote_messages import CpuQuote, Evidence, binding
from protocol.units import PeerId
from tests.verifier.attestation import recorded
from tests.verifier.attestation.foundry import Foundry
from tests.verifier.court import PROVIDER
from tests.verifier.quote_court import BELOW, FOUNDRY, bound, court, quote, told
from verifier.attestation.policy import Policy, attested_ppm, check

QUOTE = recorded.tdx()
POLICY = Policy({"tdx": {QUOTE.measurement}})
BOUND = binding(PeerId(b"\1" * 32), bytes(32), 0, 1, b"\2" * 32, b"\3" * 32)


def test_a_real_quote_made_for_something_else_is_stale() -> None:
    with pytest.raises(Refused) as refused:
        check(POLICY, (QUOTE,), BOUND)
    assert refused.value.code == "stale_nonce"


def test_a_quote_relayed_from_another_node_is_stale() -> None:
    relayed = replace(QUOTE, report_data=BOUND + bytes(32))
    other = binding(PeerId(b"\4" * 32), bytes(32), 0, 1, b"\2" * 32, b"\3" * 32)
    with pytest.raises(Refused) as refused:
        check(POLICY, (relayed,), other)
    assert refused.value.code == "stale_nonce"


def test_a_forged_nonce_breaks_the_signature() -> None:
    forged = bytearray(recorded.TDX)
    forged[48 + 584 - 64 : 48 + 584 - 32] = BOUND
    with pytest.raises(Refused) as refused:
        recorded.tdx(bytes(forged))
    assert refused.value.code == "bad_signature"


def test_the_honest_twin_passes_and_is_audited_all_the_same() -> None:
    check(POLICY, (replace(QUOTE, report_data=BOUND + bytes(32)),), BOUND)
    assert attested_ppm(200_000, 100_000) == 100_000
    assert attested_ppm(100_000, 100_000) == 100_000


def test_a_forger_with_a_genuine_machine_and_an_enclave_of_its_own_is_audited() -> None:
    """The chain ends at the maker's root and everything is signed; but not Intel's enclave vouches for the key."""
    here = court()
    forged = FOUNDRY.tdx(bound(here), signer=b"\6" * 32)
    here.hear(PROVIDER, quote(Evidence(CpuQuote("tdx", forged))))
    assert told(here) == ["bad_chain"]
    assert len(here.sent(AuditRequest)) == 1


def test_a_forger_with_a_root_of_its_own_is_audited() -> None:
    here = court()
    here.hear(PROVIDER, quote(Foundry().evidence(bound(here))))
    assert told(here) == ["untrusted_root"]
    assert len(here.sent(AuditRequest)) == 1


def test_the_honest_twin_is_spared_in_the_band_and_audited_below_it() -> None:
    spared, drawn = court(), court(BELOW)
    spared.hear(PROVIDER, quote(FOUNDRY.evidence(bound(spared))))
    assert spared.sent(RevealRequest) and not spared.sent(AuditRequest)
    assert len(drawn.sent(AuditRequest)) == 1
