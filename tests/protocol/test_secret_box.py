"""A secret for one peer alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import secret_box
from protocol.errors import RemoteViolation
from protocol.identity import Identity
from protocol.units import PeerId

STEWARD, PROVIDER, STRANGER = (Identity(bytes([number]) * 32) for number in (1, 2, 3))


@given(label=st.binary(max_size=40), secret=st.binary(max_size=64))
def test_the_receiver_opens_what_was_sealed_for_it(label: bytes, secret: bytes) -> None:
    box = secret_box.seal(STEWARD, PROVIDER.peer, label, secret)
    assert len(box) == len(secret) + secret_box.OVERHEAD_BYTES
    assert secret_box.unseal(PROVIDER, STEWARD.peer, label, box) == secret


@given(st.data())
def test_nobody_else_does_and_no_change_passes(data: st.DataObject) -> None:
    box = secret_box.seal(STEWARD, PROVIDER.peer, b"op", bytes(32))
    changed = bytearray(box)
    changed[data.draw(st.integers(0, len(box) - 1))] ^= data.draw(st.integers(1, 255))
    for receiver, sender, label, what in (
        (STRANGER, STEWARD.peer, b"op", box),
        (PROVIDER, STRANGER.peer, b"op", box),
        (PROVIDER, STEWARD.peer, b"another", box),
        (PROVIDER, STEWARD.peer, b"op", bytes(changed)),
        (PROVIDER, STEWARD.peer, b"op", data.draw(st.binary(max_size=80))),
    ):
        with pytest.raises(RemoteViolation) as caught:
            secret_box.unseal(receiver, sender, label, what)
        assert caught.value.code == "bad_box" and caught.value.peer == sender


def test_a_peer_whose_key_is_no_point_is_its_own_fault() -> None:
    with pytest.raises(RemoteViolation):
        secret_box.unseal(PROVIDER, PeerId(bytes(32)), b"op", bytes(48))
