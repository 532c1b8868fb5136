"""Keys, signatures, and the text form that libp2p shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from protocol.errors import Refused
from protocol.identity import Identity, is_signed_by, peer_from_text, peer_text
from protocol.units import PeerId

SEEDS = st.binary(min_size=32, max_size=32)


def test_rfc_8032_first_vector() -> None:
    identity = Identity(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert identity.peer.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert identity.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
        "655141438e7a100b"
    )


@given(SEEDS)
def test_text_is_libp2p_s(seed: bytes) -> None:
    ours = Identity(seed)
    assert peer_text(ours.peer) == ID.from_pubkey(create_new_key_pair(seed).public_key).to_base58()
    assert peer_text(ours.peer).startswith("12D3KooW")
    assert peer_from_text(peer_text(ours.peer)) == ours.peer
    assert ours.seed == seed
    assert seed.hex() not in repr(ours)


@given(SEEDS, st.binary(max_size=200), st.integers(min_value=0, max_value=511))
def test_a_signature_is_over_every_bit(seed: bytes, data: bytes, bit: int) -> None:
    identity = Identity(seed)
    signature = identity.sign(data)
    assert is_signed_by(identity.peer, data, signature)
    assert not is_signed_by(identity.peer, data + b"\0", signature)
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not is_signed_by(identity.peer, data, bytes(flipped))


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80))
def test_hostile_signatures_never_crash(peer: bytes, data: bytes, signature: bytes) -> None:
    assert not is_signed_by(PeerId(peer), data, signature)


@given(st.text(max_size=80))
def test_hostile_text_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is no peer id"):
        peer_from_text(text)


@pytest.mark.parametrize("text", ["", "12D3KooW", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "0OIl"])
def test_other_ids_are_refused(text: str) -> None:
    with pytest.raises(Refused):
        peer_from_text(text)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_seed_has_32_bytes(size: int) -> None:
    with pytest.raises(Refused, match="32 bytes"):
        Identity(bytes(size))
