"""Quotes recorded from real machines are read and hold; no changed byte does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import Refused
from tests.verifier.attestation import recorded
from verifier.attestation.chains import CHAIN_MAX, fingerprint, order, read_der, read_pem
from verifier.attestation.fields import QUOTE_BYTES_MAX
from verifier.attestation.quote import Quote
from verifier.attestation.snp import read_snp
from verifier.attestation.tdx import read_tdx

Read = Callable[[bytes], Quote]
KINDS: dict[str, tuple[Read, bytes]] = {
    "tdx": (recorded.tdx, recorded.TDX),
    "sev-snp": (recorded.snp, recorded.SNP),
    "nvidia": (recorded.gpu, recorded.GPU),
}
each = pytest.mark.parametrize("maker", KINDS)


@each
def test_a_recorded_quote_holds(maker: str) -> None:
    read, data = KINDS[maker]
    quote = read(data)
    assert quote.maker == maker
    assert len(quote.measurement) == 48
    assert len(quote.report_data) == (32 if maker == "nvidia" else 64)


def test_what_the_recorded_machines_were_asked_to_sign() -> None:
    assert recorded.snp().report_data[:5] == bytes((1, 2, 3, 4, 5))
    assert recorded.gpu().report_data.hex().startswith("931d8dd0add203ac")


def test_a_machine_that_may_be_debugged_says_so() -> None:
    assert recorded.snp().is_debug and not recorded.tdx().is_debug


@each
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_refused_and_never_crashes(maker: str, data: st.DataObject) -> None:
    read, original = KINDS[maker]
    # Bytes that no signature covers: AMD leaves the rest of its signature field unused.
    covered = 672 + 144 if maker == "sev-snp" else len(original)
    changed = bytearray(original)
    changed[data.draw(st.integers(0, covered - 1))] ^= data.draw(st.integers(1, 255))
    try:
        quote = read(bytes(changed))
    except Refused as refusal:
        assert refusal.code in ("malformed_proof", "bad_signature", "bad_chain", "untrusted_root", "expired")
    else:
        assert quote == read(original), "only the text around a certificate may change"


@each
@given(cut=st.integers(1, 600))
def test_a_shorter_or_longer_one_is_malformed(maker: str, cut: int) -> None:
    read, original = KINDS[maker]
    for data in (original[:-cut], original + b"\1" * cut, b"", bytes(QUOTE_BYTES_MAX + 1)):
        with pytest.raises(Refused) as refused:
            read(data)
        assert refused.value.code == "malformed_proof"


@each
@given(data=st.binary(max_size=1400))
def test_any_bytes_are_refused(maker: str, data: bytes) -> None:
    with pytest.raises(Refused):
        KINDS[maker][0](data)


def test_a_revoked_certificate_ends_it() -> None:
    revoked = (fingerprint(recorded.SNP_CERTIFICATES[0]),)
    with pytest.raises(Refused) as refused:
        recorded.snp(revoked=revoked)
    assert refused.value.code == "revoked"


@pytest.mark.parametrize("now", [0, 4_000_000_000_000_000])
def test_certificates_have_their_time(now: int) -> None:
    with pytest.raises(Refused) as refused:
        recorded.tdx(now=now)
    assert refused.value.code == "expired"


def test_another_maker_s_root_is_none() -> None:
    with pytest.raises(Refused) as refused:
        read_tdx(recorded.TDX, recorded.GPU_ROOTS, (), recorded.NOW)
    assert refused.value.code == "untrusted_root"


def test_a_chain_with_a_stranger_in_it_is_refused() -> None:
    vcek, milan, genoa_like = recorded.SNP_CERTIFICATES[0], recorded.MILAN, recorded.read("nvidia-root.pem")
    with pytest.raises(Refused) as refused:
        read_snp(recorded.SNP, (vcek, *milan[1:], *read_pem(genoa_like)), recorded.ROOTS, (), recorded.NOW)
    assert refused.value.code in ("untrusted_root", "bad_signature")


def test_a_chain_is_found_in_any_order() -> None:
    forward = order(recorded.SNP_CERTIFICATES)
    assert order(recorded.SNP_CERTIFICATES[::-1]) == forward
    assert [item.subject == item.issuer for item in forward] == [False, False, True]


def test_too_many_certificates_are_malformed() -> None:
    with pytest.raises(Refused) as refused:
        read_pem(recorded.read("nvidia-root.pem") * (CHAIN_MAX + 1))
    assert refused.value.code == "malformed_proof"
    with pytest.raises(Refused):
        read_der(b"no certificate")
