"""storage/compress.py: compression where it pays, and nothing that unfolds into more than it announced."""

from __future__ import annotations

import random
import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from protocol.units import MIB
from storage.compress import SAMPLE_BYTES, WINDOW_BYTES_MAX, ZSTD_BYTES_PER_S, expand, pays, shrink
from storage.filters import ITEMSIZES, shuffle

NOISE = random.Random(1).randbytes(MIB)


@given(st.binary(min_size=1, max_size=200), st.integers(1, 4_000), st.sampled_from(ITEMSIZES))
def test_what_is_shrunk_expands(seed: bytes, times: int, itemsize: int) -> None:
    content = memoryview(seed * times)
    small = shrink(content, itemsize)
    if small is not None:
        assert len(small) * 105 <= len(content) * 100
        assert bytes(expand(small, len(content), itemsize)) == bytes(content)


def test_incompressible_bytes_are_left_alone() -> None:
    assert shrink(memoryview(NOISE), 1) is None
    assert shrink(memoryview(NOISE), 4) is None
    assert shrink(memoryview(NOISE[:100]), 1) is None


def test_the_shuffle_makes_floats_compressible() -> None:
    chance = random.Random(2)
    floats = struct.pack("<65536f", *(chance.gauss(0.0, 0.02) for _ in range(65_536)))
    assert shrink(memoryview(floats), 1) is None or len(shrink(memoryview(floats), 1) or b"") > 0.9 * len(floats)
    small = shrink(memoryview(floats), 4)
    assert small is not None
    assert len(small) < 0.9 * len(floats)


def test_a_sample_from_the_middle_decides() -> None:
    zeros = bytes(2 * SAMPLE_BYTES)
    assert shrink(memoryview(zeros + NOISE[: 2 * SAMPLE_BYTES] + zeros), 1) is None
    assert shrink(memoryview(NOISE[:SAMPLE_BYTES] + zeros + NOISE[:SAMPLE_BYTES]), 1) is not None


def test_a_fast_uplink_gets_raw_bytes() -> None:
    text = memoryview(b"so it goes, " * 100_000)
    assert shrink(text, 1, uplink_bytes_per_s=MIB) is not None
    assert shrink(text, 1, uplink_bytes_per_s=1_000 * ZSTD_BYTES_PER_S) is None
    assert pays(1_000, 500, ZSTD_BYTES_PER_S // 3)
    assert not pays(1_000, 500, ZSTD_BYTES_PER_S)
    assert not pays(1_000, 960, 1)


def test_a_bomb_is_refused_by_what_it_announces() -> None:
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(64 * MIB))
    assert len(bomb) < 8_192
    with pytest.raises(Refused) as caught:
        expand(bomb, 4 * MIB, 1)
    assert caught.value.numbers["announced"] == 64 * MIB


def test_a_frame_that_announces_nothing_or_too_little_is_refused() -> None:
    silent = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(bytes(8 * MIB))
    with pytest.raises(Refused):
        expand(silent, 4 * MIB, 1)
    lying = bytearray(zstandard.ZstdCompressor(level=1).compress(bytes(70_000)))
    at = lying.index((70_000).to_bytes(4, "little"))
    lying[at : at + 4] = (60_000).to_bytes(4, "little")
    with pytest.raises(Refused):
        expand(bytes(lying), 60_000, 1)


def test_a_frame_that_wants_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    wide = compressor.compress(NOISE * 20)
    assert zstandard.get_frame_parameters(wide).window_size > WINDOW_BYTES_MAX
    with pytest.raises(Refused):
        expand(wide, 20 * MIB, 1)


@given(st.binary(max_size=80), st.integers(1, 100))
def test_any_bytes_are_refused_or_have_the_size(garbage: bytes, size: int) -> None:
    for stored in (garbage, zstandard.FRAME_HEADER + garbage, b"\x50\x2a\x4d\x18" + garbage):
        try:
            assert len(expand(stored, size, 1)) == size
        except Refused as error:
            assert error.code == "snapshot_damaged"


def test_something_behind_the_frame_is_refused() -> None:
    small = zstandard.ZstdCompressor(level=1).compress(bytes(shuffle(memoryview(bytes(1_000)), 4)))
    assert len(expand(small, 1_000, 4)) == 1_000
    with pytest.raises(Refused):
        expand(small + b"x", 1_000, 4)
