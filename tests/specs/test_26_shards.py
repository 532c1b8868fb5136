"""specs/26-shards.md against storage/ and node/isal.py, and the vectors against both."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import specs
from node import isal
from protocol import snapshots
from protocol.snapshots import Pack
from protocol.units import KIB, MIB
from storage import compress, cutting, filters, galois, ids, index, packs, parity, records
from storage.erasure import NUMPY, Code, generator
from storage.ids import Place
from storage.pipeline import open_sealed
from storage.records import CipherName

SPEC = specs.load("26-shards")
MODULES = (compress, cutting, galois, ids, index, packs, records, snapshots)
VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "shards.json").read_text())
SECRET, PLACE = bytes.fromhex(VECTOR["secret"]), Place(b"e" * 32, 7, 2, 40)
Chunk = tuple[bytes, int, int, int, int, int, int, int]
Table = tuple[list[tuple[int, int, str]], list[Chunk], list[int], list[tuple[str, int, int]]]
CIPHERS: tuple[CipherName, ...] = ("aes-256-gcm", "chacha20-poly1305")


def said(name: str) -> Callable[..., bytes]:
    """A function of the document that gives bytes."""
    return cast("Callable[..., bytes]", SPEC.functions[name])


def test_constants_are_the_code_s() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in MODULES if name in vars(module)]
        assert owners, f"{name} is not in the code"
        assert all(vars(module)[name] == value for module in owners), name


def test_tables_are_the_code_s() -> None:
    fields = {row["field"]: row["holds"] for row in SPEC.table("index")}
    assert list(fields) == list(index.Index.__struct_fields__)
    assert fields["chunks"] == ", ".join(index.StoredChunk.__struct_fields__)
    assert fields["parts"] == ", ".join(index.PartEntry.__struct_fields__)


def test_opaque_bytes_are_cut_as_it_says() -> None:
    noise = random.Random(1).randbytes(4 * MIB)
    ends = list(cutting.boundaries(memoryview(noise)))
    chunks = [(end - start, start) for start, end in pairwise([0, *ends[:-1]])]
    rare = min(chunks)
    frequent = min(chunk for chunk in chunks if chunk[0] > cutting.OPAQUE_BYTES_USUAL)
    for size, start in (rare, frequent, (9, 0), (0, 0), (80 * KIB, 0)):
        data = noise[start : start + size + (5 * KIB if size > 9 else 0)]
        found = list(cutting.boundaries(memoryview(data)))
        assert SPEC.functions["boundaries"](data) == found
        assert size in (9, 0, 80 * KIB) or found[0] == size


@given(st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 2**33), st.integers(0, 2**40))
def test_sizes_and_nonces_are_as_it_says(size: int, number: int, sequence: int, record: int) -> None:
    assert SPEC.functions["sealed_size"](size) == records.sealed_size(size)
    assert said("nonce")(number, sequence, record) == records.nonce(number, sequence, record)
    assert SPEC.functions["shard_size"](size, 8) == parity.shard_size(size, 8)


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.none() | st.integers(1, 2**34))
def test_compression_pays_as_it_says(size: int, small: int, uplink: int | None) -> None:
    assert SPEC.functions["pays"](size, small, uplink) == compress.pays(size, small, uplink)


@given(st.binary(max_size=100), st.sampled_from(filters.ITEMSIZES))
def test_bytes_are_shuffled_as_it_says(content: bytes, itemsize: int) -> None:
    assert said("shuffle")(content, itemsize) == bytes(filters.shuffle(memoryview(content), itemsize))


@given(st.binary(min_size=32, max_size=32), st.integers(0, 4096), st.integers(1, 1_000), st.integers(0, 2**60))
def test_keys_are_derived_as_it_says(secret: bytes, chunk: int, epoch: int, number: int) -> None:
    at = Place(secret[::-1], chunk, epoch, number)
    assert said("place")(at.escrow, chunk, epoch, number) == at.encoded
    assert said("id_key")(secret) == ids.id_key(secret)
    key = said("snapshot_key")(secret, at.encoded)
    assert key == ids.snapshot_key(secret, at)
    assert said("chunk_key")(key, secret, 1, 4) == ids.chunk_key(key, secret, 1, 4)
    assert said("index_key")(key, secret[:16]) == ids.index_key(key, secret[:16])


@given(st.integers(0, 3), st.sampled_from(CIPHERS), st.binary(max_size=40))
def test_records_are_as_it_says(blocks: int, cipher: CipherName, rest: bytes) -> None:
    plain = bytes(blocks * records.RECORD_BYTES) + rest
    into = bytearray(records.sealed_size(len(plain)))
    records.seal(memoryview(plain), memoryview(into), records.aead(cipher, SECRET), 5, 6, b"bound")
    assert said("open_records")(bytes(into), cipher, SECRET, 5, 6, b"bound") == plain


@pytest.mark.parametrize("code", [Code(1, 1), Code(2, 5), Code(8, 14)])
def test_parity_is_as_it_says(code: Code) -> None:
    data = [random.Random(index).randbytes(11) for index in range(code.k)]
    expected = SPEC.functions["parity"](data, code.n)
    for erasure in (NUMPY, isal.erasure_code()):
        assert erasure.encode([memoryview(one) for one in data], code.n) == expected
    rows = generator(code)
    for row in range(code.k, code.n):
        assert list(rows[row]) == [SPEC.functions["coefficient"](row, column) for column in range(code.k)]


def test_the_published_snapshot_opens() -> None:
    content, k, n = bytes.fromhex(VECTOR["pack"]), VECTOR["k"], VECTOR["n"]
    shards = tuple(bytes.fromhex(digest) for digest in VECTOR["shards"])
    pack = Pack(len(content), parity.shard_size(len(content), k), "rs", k, n, shards)
    found = open_sealed([pack], VECTOR["index_bytes"], PLACE, SECRET, [content].__getitem__)
    assert {part.name: [part.itemsize, bytes(part.data).hex()] for part in found} == VECTOR["parts"]
    assert PLACE.encoded.hex() == VECTOR["place"]
    padded = content.ljust(k * pack.shard_size, b"\0")
    data = [memoryview(padded)[row * pack.shard_size : (row + 1) * pack.shard_size] for row in range(k)]
    assert len(parity.parity_of(data, pack, isal.erasure_code())) == n - k


def test_the_document_alone_is_enough_to_open_the_published_snapshot() -> None:
    content, at = bytes.fromhex(VECTOR["pack"]), bytes.fromhex(VECTOR["place"])
    table = SPEC.functions["open_index"](content[-VECTOR["index_bytes"] :], SECRET, at)
    origins, chunks, order, parts = cast("Table", table)
    state = b""
    for position in order:
        name, pack, offset, sequence, stored, size, codec, itemsize = chunks[position]
        epoch, number, cipher = origins[pack]
        sealed_at = at[:40] + epoch.to_bytes(8, "big") + number.to_bytes(8, "big")
        key = said("chunk_key")(said("snapshot_key")(SECRET, sealed_at), name, codec, itemsize)
        end = offset + cast("int", SPEC.functions["sealed_size"](stored))
        bound = sealed_at[:48] + name
        plain = said("open_records")(content[offset:end], cipher, key, number, sequence, bound)
        if codec:
            turned = zstandard.decompress(plain, max_output_size=size)
            plain = bytes(filters.unshuffle(memoryview(turned), filters.element(itemsize)))
        assert ids.chunk_id([plain], said("id_key")(SECRET)) == name
        state += plain
    for title, itemsize, size in parts:
        assert VECTOR["parts"][title] == [itemsize, state[:size].hex()]
        state = state[size:]
    assert not state


def test_the_published_keys_are_what_the_code_makes() -> None:
    assert VECTOR["id_key"] == ids.id_key(SECRET).hex()
    assert VECTOR["snapshot_key"] == ids.snapshot_key(SECRET, PLACE).hex()
