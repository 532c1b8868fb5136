"""One encoding per value, statements that name their signer, ids that read back."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import Refused, RemoteViolation
from protocol.identity import Identity
from protocol.messages import BlocksRequest
from protocol.units import PeerId

SENDER = PeerId(b"s" * 32)
ALICE = Identity(b"a" * 32)
REQUEST = wire.decoder(BlocksRequest)
HEIGHTS = st.integers(min_value=0, max_value=2**62)


@given(HEIGHTS)
def test_round_trip(height: int) -> None:
    data = wire.encode(BlocksRequest(height))
    assert wire.decode(data, REQUEST, SENDER) == BlocksRequest(height)
    assert msgpack.unpackb(data) == {"type": "blocks_request", "height": height}


@given(st.binary(max_size=200))
def test_bytes_never_crash(data: bytes) -> None:
    try:
        value = wire.decode(data, REQUEST, SENDER)
    except RemoteViolation as violation:
        assert violation.peer == SENDER
    else:
        assert wire.encode(value) == data


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\xa4type\xaeblocks_request\xa6height\xcd\x00\x05", "not_canonical"),  # 5 in three bytes
        (b"\x83\xa4type\xaeblocks_request\xa6height\x05\xa6height\x05", "not_canonical"),  # a key twice
        (b"\x82\xa6height\x05\xa4type\xaeblocks_request", "not_canonical"),  # another order
        (b"\x82\xa4type\xaeblocks_request\xa6height\x05\x05", "malformed"),  # something behind
        (b"\x82\xa4type\xaeblocks_request\xa6height\xff", "malformed"),  # below the bound
        (b"\x83\xa4type\xaeblocks_request\xa6height\x05\xa3new\x01", "malformed"),  # an unknown field
        (b"\x91" * 5_000, "malformed"),  # nested deeper than the stack
        (b"", "malformed"),
        (bytes(wire.MESSAGE_BYTES_MAX + 1), "over_limit"),
    ],
)
def test_what_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(RemoteViolation) as refusal:
        wire.decode(data, REQUEST, SENDER)
    assert refusal.value.code == code


@given(HEIGHTS)
def test_a_statement_opens_only_as_what_it_is(height: int) -> None:
    signed = wire.sign(ALICE, "reef", "offer", BlocksRequest(height))
    assert wire.open_signed(signed, "reef", "offer", REQUEST, SENDER) == BlocksRequest(height)
    wrong = [
        (signed, "other", "offer"),
        (signed, "reef", "notice"),
        (wire.Signed(Identity(b"b" * 32).peer, signed.body, signed.signature), "reef", "offer"),
        (wire.Signed(signed.signer, signed.body + b"\0", signed.signature), "reef", "offer"),
        (wire.Signed(signed.signer, signed.body, bytes(64)), "reef", "offer"),
    ]
    for statement, network, kind in wrong:
        with pytest.raises(RemoteViolation, match="bad signature"):
            wire.open_signed(statement, network, kind, REQUEST, SENDER)


@given(st.sampled_from(["job", "esc"]), st.binary(min_size=16, max_size=16))
def test_ids_read_back(prefix: str, raw: bytes) -> None:
    assert wire.raw_id(prefix, wire.text_id(prefix, raw), 16) == raw


@pytest.mark.parametrize(
    "text", ["", "job_", f"esc_{'0' * 32}", f"job_{'0' * 31}", f"job_{'A' * 32}", f"job_{'g' * 32}"]
)
def test_other_ids_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="is no job id"):
        wire.raw_id("job", text, 16)


def test_a_digest_is_blake3() -> None:
    assert wire.digest(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
