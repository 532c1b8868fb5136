"""Records: what is sealed opens once, in order, unchanged, in its own direction; anything else does not."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.bulk.records import (
    CONTROL,
    CONTROL_BYTES_MAX,
    DATA,
    HEADER_BYTES,
    RECORD_BYTES_MAX,
    TAG_BYTES,
    CipherName,
    Opener,
    Sealer,
)
from protocol.errors import LocalError, Unavailable

KEY = bytes(range(32))
CIPHERS: tuple[CipherName, ...] = ("aes-128-gcm", "chacha20-poly1305")
BODIES = st.lists(st.binary(max_size=300), min_size=1, max_size=8)


def seal(sealer: Sealer, body: bytes, is_last: bool = False) -> bytes:
    """One record of these bytes."""
    buffer = memoryview(bytearray(HEADER_BYTES + len(body) + TAG_BYTES))
    buffer[HEADER_BYTES : HEADER_BYTES + len(body)] = body
    return bytes(buffer[: sealer.seal(buffer, len(body), DATA, is_last)])


def unseal(opener: Opener, record: bytes) -> bytes:
    """The bytes of one record, opened within its own memory."""
    memory = memoryview(bytearray(record))
    header, body = memory[:HEADER_BYTES], memory[HEADER_BYTES:]
    into = body[: max(0, len(body) - TAG_BYTES)]
    opener.open(header, body, into)
    return bytes(into)


@given(st.sampled_from(CIPHERS), BODIES, st.integers(300, 2_000))
def test_what_is_sealed_opens_through_any_change_of_keys(cipher: CipherName, bodies: list[bytes], rekey: int) -> None:
    sealer, opener = Sealer(cipher, KEY, rekey), Opener(cipher, KEY, rekey)
    assert [unseal(opener, seal(sealer, body)) for body in bodies] == bodies


@given(st.sampled_from(CIPHERS), st.binary(min_size=1, max_size=64), st.data())
def test_a_changed_bit_anywhere_is_found(cipher: CipherName, body: bytes, data: st.DataObject) -> None:
    record = bytearray(seal(Sealer(cipher, KEY), body))
    bit = data.draw(st.integers(0, len(record) * 8 - 1))
    record[bit // 8] ^= 1 << bit % 8
    with pytest.raises((Unavailable, LocalError)):
        unseal(Opener(cipher, KEY), bytes(record))


@given(
    st.lists(st.binary(min_size=1, max_size=20), min_size=3, max_size=6, unique=True), st.randoms(use_true_random=False)
)
def test_records_that_are_swapped_dropped_or_repeated_do_not_open(bodies: list[bytes], dice: object) -> None:
    sealer = Sealer("aes-128-gcm", KEY)
    first, second, *rest = [seal(sealer, body) for body in bodies]
    for order in ([second], [first, first], [first, *rest], [*rest, first]):
        opener = Opener("aes-128-gcm", KEY)
        with pytest.raises(Unavailable, match="does not open"):
            for record in order:
                unseal(opener, record)


def test_a_stream_that_is_cut_is_told_from_one_that_ends() -> None:
    sealer, opener = Sealer("aes-128-gcm", KEY), Opener("aes-128-gcm", KEY)
    unseal(opener, seal(sealer, b"one"))
    with pytest.raises(Unavailable, match="cut"):
        opener.end()
    last = seal(sealer, b"two", is_last=True)
    unseal(opener, last)
    opener.end()
    with pytest.raises(LocalError, match="last"):
        seal(sealer, b"three")
    with pytest.raises(Unavailable, match="no sense"):
        unseal(opener, last)


def test_the_flag_of_the_last_record_cannot_be_set_by_others() -> None:
    record = bytearray(seal(Sealer("aes-128-gcm", KEY), b"one"))
    record[1] = 1
    with pytest.raises(Unavailable):
        unseal(Opener("aes-128-gcm", KEY), bytes(record))


def test_no_record_opens_in_the_other_direction() -> None:
    record = seal(Sealer("aes-128-gcm", KEY), b"hello")
    with pytest.raises(Unavailable):
        unseal(Opener("aes-128-gcm", bytes(32)), record)


def test_equal_bytes_never_look_equal_even_across_a_change_of_keys() -> None:
    sealer = Sealer("aes-128-gcm", KEY, rekey_bytes=160)
    records = [seal(sealer, bytes(64)) for _ in range(50)]
    assert len({record[HEADER_BYTES:] for record in records}) == 50


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_sealer_cannot_be_copied_so_no_nonce_is_used_twice(how: object) -> None:
    assert callable(how)
    with pytest.raises(LocalError, match="same nonces"):
        how(Sealer("aes-128-gcm", KEY))


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_a_header_announces_only_what_may_come(header: bytes) -> None:
    opener = Opener("aes-128-gcm", KEY)
    try:
        found = opener.announced(memoryview(header))
    except Unavailable:
        return
    assert found.size <= (RECORD_BYTES_MAX if found.kind == DATA else CONTROL_BYTES_MAX)


def test_a_record_that_does_not_fit_is_our_error() -> None:
    with pytest.raises(LocalError, match="does not fit"):
        Sealer("aes-128-gcm", KEY).seal(memoryview(bytearray(40)), 20, CONTROL)
    with pytest.raises(LocalError, match="32 bytes"):
        Sealer("aes-128-gcm", b"short")
