"""Chunks: how blobs are cut, and what a list of digests proves about whom."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.bulk.chunks import (
    CHUNK_BYTES,
    CHUNK_BYTES_LARGE,
    CHUNKS_MAX,
    LARGE_BYTES,
    ChunkList,
    answer_decoder,
    chunk_bytes,
    chunk_count,
    question_decoder,
)
from protocol.errors import Refused, RemoteViolation
from protocol.units import Digest, PeerId

PEER = PeerId(b"p" * 32)


def list_of(data: bytes) -> ChunkList:
    pieces = [data[at : at + CHUNK_BYTES] for at in range(0, max(1, len(data)), CHUNK_BYTES)]
    return ChunkList(len(data), b"".join(blake3(piece).digest() for piece in pieces))


@given(st.integers(0, CHUNKS_MAX * CHUNK_BYTES_LARGE))
def test_chunks_cover_a_blob_exactly(total: int) -> None:
    count = chunk_count(total)
    chunks = ChunkList(total, bytes(32) * min(count, 3))
    assert chunks.offset(count - 1) + chunks.size(count - 1) == total
    assert chunks.offset(count) >= total
    assert chunk_bytes(total) == (CHUNK_BYTES_LARGE if total >= LARGE_BYTES else CHUNK_BYTES)


def test_a_blob_that_is_too_large_to_be_cut_is_refused() -> None:
    with pytest.raises(Refused, match="too large"):
        chunk_count(CHUNKS_MAX * CHUNK_BYTES_LARGE + 1)


def test_a_chunk_fits_its_own_place_only() -> None:
    data = bytes(CHUNK_BYTES) + b"rest"
    chunks = list_of(data)
    assert chunks.fits(0, memoryview(data)[:CHUNK_BYTES])
    assert chunks.fits(1, memoryview(b"rest"))
    assert not chunks.fits(1, memoryview(b"Rest"))
    assert not chunks.fits(0, memoryview(b"rest"))
    assert not chunks.fits(1, memoryview(data)[:CHUNK_BYTES])


def test_a_list_binds_whoever_stated_it() -> None:
    chunks = list_of(bytes(CHUNK_BYTES + 1))
    assert ChunkList.received(chunks.total, chunks.flat, chunks.commitment, PEER) == chunks
    for total, flat in ((chunks.total, chunks.flat[::-1]), (chunks.total, chunks.flat[:32]), (5, chunks.flat)):
        with pytest.raises(RemoteViolation, match="stated"):
            ChunkList.received(total, flat, chunks.commitment, PEER)
    assert ChunkList(chunks.total - 1, chunks.flat).commitment != chunks.commitment


def test_the_list_of_a_single_chunk_is_the_digest_itself() -> None:
    assert ChunkList.of_one(4, Digest(blake3(b"rest").digest())) == list_of(b"rest")
    assert list_of(b"").count == 1


@given(st.binary(max_size=200))
def test_rubbish_is_a_violation_and_nothing_else(rubbish: bytes) -> None:
    with pytest.raises(RemoteViolation):
        wire.decode(rubbish, question_decoder, PEER)
    with pytest.raises(RemoteViolation):
        wire.decode(rubbish, answer_decoder, PEER)
