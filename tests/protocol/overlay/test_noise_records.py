"""Noise messages against the library whose handshake they follow, split anywhere, forged, and at the last counter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from noise.backends.default.ciphers import ChaCha20Cipher  # type: ignore[import-untyped]

from protocol.errors import RemoteViolation, Unavailable
from protocol.overlay.noise_records import NONCE_END, Opener, Sealer
from protocol.overlay.yamux_frames import RECORD_BYTES
from protocol.units import PeerId

KEY = bytes(range(32))
PEER = PeerId(b"p" * 32)


@given(st.lists(st.binary(max_size=200), max_size=8), st.integers(1, 60), st.integers(0, 2**40))
def test_what_is_sealed_opens(plains: list[bytes], split: int, counter: int) -> None:
    sealer, opener = Sealer(KEY, counter), Opener(PEER, KEY, counter)
    wire = b"".join(bytes(sealer.seal(plain)) for plain in plains)
    opened = [record for at in range(0, len(wire), split) for record in opener.open(memoryview(wire[at : at + split]))]
    assert opened == [plain for plain in plains if plain]
    assert sealer.counter == opener.counter
    assert opener.held == 0


def test_long_data_becomes_full_records() -> None:
    plain = bytes(range(256)) * 1_000
    wire = Sealer(KEY, 0).seal(plain)
    records = Opener(PEER, KEY, 0).open(memoryview(wire))
    assert [len(record) for record in records] == [RECORD_BYTES] * 3 + [len(plain) - 3 * RECORD_BYTES]
    assert b"".join(records) == plain


def test_the_handshake_s_library_reads_it() -> None:
    cipher = ChaCha20Cipher()
    cipher.initialize(KEY)
    wire = bytes(Sealer(KEY, 7).seal(b"hello"))
    assert wire[:2] == (5 + 16).to_bytes(2, "big")
    assert cipher.decrypt(KEY, 7, b"", wire[2:]) == b"hello"
    sealed = cipher.encrypt(KEY, 9, b"", b"hi")
    assert Opener(PEER, KEY, 9).open(memoryview(len(sealed).to_bytes(2, "big") + sealed)) == [b"hi"]


@given(st.integers(0, 8 * (5 + 16) - 1))
def test_a_flipped_bit_is_noticed(bit: int) -> None:
    wire = Sealer(KEY, 0).seal(b"hello")
    wire[2 + bit // 8] ^= 1 << bit % 8
    with pytest.raises(RemoteViolation) as caught:
        Opener(PEER, KEY, 0).open(memoryview(wire))
    assert (caught.value.code, caught.value.peer) == ("noise_forged", PEER)


def test_a_replayed_or_missing_record_is_noticed() -> None:
    sealer = Sealer(KEY, 0)
    first, second = sealer.seal(b"1"), sealer.seal(b"2")
    for wire in (first + first, second):
        with pytest.raises(RemoteViolation, match="forged"):
            Opener(PEER, KEY, 0).open(memoryview(wire))


def test_a_record_without_tag_is_a_violation() -> None:
    with pytest.raises(RemoteViolation, match="15 bytes has no tag"):
        Opener(PEER, KEY, 0).open(memoryview(b"\0\x0f" + bytes(15)))


def test_an_incomplete_record_is_all_that_is_held() -> None:
    opener = Opener(PEER, KEY, 0)
    for _ in range(65):
        opener.open(memoryview(b"\xff\xff" + bytes(998) if not opener.held else bytes(1_000)))
    assert opener.held == 65_000


def test_counters_end() -> None:
    sealer = Sealer(KEY, NONCE_END - 1)
    wire = sealer.seal(b"last")
    with pytest.raises(Unavailable, match="all that its key may seal"):
        sealer.seal(b"one more")
    opener = Opener(PEER, KEY, NONCE_END - 1)
    assert opener.open(memoryview(wire)) == [b"last"]
    with pytest.raises(RemoteViolation, match="behind the last counter"):
        opener.open(memoryview(wire))
