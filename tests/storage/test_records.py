"""storage/records.py and ids.py: what is encrypted under which key, and that no change goes unseen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalError, Refused
from storage import ids, records
from storage.ids import Place
from storage.records import RECORD_BYTES, TAG_BYTES, CipherName

CIPHERS: tuple[CipherName, ...] = ("aes-256-gcm", "chacha20-poly1305")
KEY = bytes(range(32))
SIZES = st.one_of(st.integers(0, 100), st.integers(RECORD_BYTES - 2, RECORD_BYTES + 2), st.just(2 * RECORD_BYTES + 9))


def sealed(plain: bytes, cipher: CipherName, number: int = 3, sequence: int = 7, bound: bytes = b"here") -> bytearray:
    into = bytearray(records.sealed_size(len(plain)))
    records.seal(memoryview(plain), memoryview(into), records.aead(cipher, KEY), number, sequence, bound)
    return into


def opened(
    data: bytearray, size: int, cipher: CipherName, number: int = 3, sequence: int = 7, bound: bytes = b"here"
) -> bytes:
    into = bytearray(size)
    records.open_into(memoryview(data), memoryview(into), records.aead(cipher, KEY), number, sequence, bound)
    return bytes(into)


@given(SIZES, st.sampled_from(CIPHERS))
def test_records_open(size: int, cipher: CipherName) -> None:
    plain = bytes(index * 31 & 0xFF for index in range(size))
    data = sealed(plain, cipher)
    assert len(data) == size + TAG_BYTES * -(-size // RECORD_BYTES)
    assert opened(data, size, cipher) == plain


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_changed_byte_is_seen(cipher: CipherName) -> None:
    data = sealed(b"forty bytes of state, and two more: here", cipher)
    for index in range(len(data)):
        changed = bytearray(data)
        changed[index] ^= 1 << index % 8
        with pytest.raises(Refused) as caught:
            opened(changed, 40, cipher)
        assert caught.value.code == "snapshot_damaged"


def test_records_that_changed_places_are_seen() -> None:
    data = sealed(bytes(2 * RECORD_BYTES), "aes-256-gcm")
    one = RECORD_BYTES + TAG_BYTES
    with pytest.raises(Refused):
        opened(data[one:] + data[:one], 2 * RECORD_BYTES, "aes-256-gcm")


@pytest.mark.parametrize(("number", "sequence", "bound"), [(4, 7, b"here"), (3, 8, b"here"), (3, 7, b"there")])
def test_another_place_does_not_open(number: int, sequence: int, bound: bytes) -> None:
    data = sealed(b"state", "aes-256-gcm")
    with pytest.raises(Refused):
        opened(data, 5, "aes-256-gcm", number, sequence, bound)


def test_lengths_that_do_not_fit_are_our_own_mistake() -> None:
    with pytest.raises(LocalError):
        opened(sealed(b"state", "aes-256-gcm"), 6, "aes-256-gcm")


@given(st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 3), unique=True, min_size=2, max_size=20))
def test_no_two_nonces_are_alike(places: list[tuple[int, int, int]]) -> None:
    assert len({records.nonce(*place) for place in places}) == len(places)
    assert all(len(records.nonce(*place)) == 12 for place in places)
    assert len(records.nonce(2**40, 1, 1)) == 12


def test_keys_differ_by_everything_they_depend_on() -> None:
    place = Place(b"e" * 32, 1, 2, 3)
    others = [
        Place(b"f" * 32, 1, 2, 3),
        Place(b"e" * 32, 2, 2, 3),
        Place(b"e" * 32, 1, 3, 3),
        Place(b"e" * 32, 1, 2, 4),
    ]
    keys = {ids.snapshot_key(KEY, one) for one in (place, *others)} | {ids.snapshot_key(bytes(32), place)}
    assert len(keys) == 6
    key, one, two = ids.snapshot_key(KEY, place), b"1" * 32, b"2" * 32
    of_chunks = {ids.chunk_key(key, one, 0, 4), ids.chunk_key(key, two, 0, 4), ids.chunk_key(key, one, 1, 4)}
    assert len(of_chunks | {ids.chunk_key(key, one, 0, 8), ids.index_key(key, one[:16]), ids.id_key(KEY)}) == 6


def test_ids_are_those_of_the_bytes_however_they_come() -> None:
    key = ids.id_key(KEY)
    assert ids.chunk_id([b"ab", b"", b"c"], key) == ids.chunk_id([b"abc"], key)
    assert ids.chunk_id([b"abc"], key) != ids.chunk_id([b"abc"], ids.id_key(bytes(32)))


def test_short_secrets_and_escrows_are_our_own_mistake() -> None:
    with pytest.raises(LocalError):
        ids.id_key(b"short")
    with pytest.raises(LocalError):
        Place(b"short", 1, 1, 1)
