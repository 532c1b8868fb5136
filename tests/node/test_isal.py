"""node/isal.py: every library computes the same bytes as NumPy, and a machine without one works too."""

from __future__ import annotations

import ctypes.util
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from node import isal
from protocol.errors import LocalError
from storage import galois
from storage.erasure import ANCHOR_WIDE, NUMPY, ROLLING, Code, ErasureCode
from storage.galois import Matrix


def libraries() -> list[str]:
    """Those that load here."""
    usable = []
    for path in isal.found():
        try:
            isal.IsaL(path)
        except (OSError, AttributeError):
            continue
        usable.append(path)
    return usable


@pytest.fixture(params=isal.found(), ids=lambda path: Path(path).name)
def native(request: pytest.FixtureRequest) -> ErasureCode:
    path: str = request.param
    if path not in libraries():
        pytest.skip(f"{path} is not installed here")
    found = isal.erasure_code([path])
    assert found.name == f"ISA-L ({Path(path).name})"
    return found


@pytest.mark.parametrize("code", [Code(2, 3), ROLLING, ANCHOR_WIDE, Code(60, 64)])
@pytest.mark.parametrize("size", [1, 31, 33, 1_000, isal.BLOCK_BYTES + 77])
def test_the_same_bytes_as_numpy(native: ErasureCode, code: Code, size: int) -> None:
    chance = random.Random(size)
    data = [memoryview(chance.randbytes(size)) for _ in range(code.k)]
    parity = native.encode(data, code.n)
    assert parity == NUMPY.encode(data, code.n)
    shards = dict(enumerate([*data, *(memoryview(one) for one in parity)]))
    lost = chance.sample(range(code.n), code.n - code.k)
    present = {index: view for index, view in shards.items() if index not in lost}
    assert native.decode(present, code.k, code.n, lost) == [bytes(shards[index]) for index in lost]


def test_read_only_targets_are_our_own_mistake(native: ErasureCode) -> None:
    with pytest.raises(LocalError):
        native.encode_into([memoryview(b"ab"), memoryview(b"cd")], [memoryview(b"ef")])


def test_without_a_library_numpy_computes() -> None:
    assert isal.erasure_code([]) is NUMPY
    assert isal.erasure_code(["libthere-is-no-such-thing.so.9"]) is NUMPY


def test_a_library_that_is_another_one_is_passed_over() -> None:
    other = ctypes.util.find_library("c")
    assert other is not None
    with pytest.raises(AttributeError):
        isal.IsaL(other)
    assert isal.erasure_code([other]) is NUMPY


def test_a_library_that_computes_wrongly_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(matrix: Matrix, data: Sequence[memoryview], into: Sequence[memoryview]) -> None:
        galois.product(matrix, data, into)
        into[-1][len(into[-1]) // 2] ^= 1

    class Broken:
        def __init__(self, path: str) -> None:
            self.product = wrong

    assert isal.is_right(galois.product)
    assert not isal.is_right(wrong)
    monkeypatch.setattr(isal, "IsaL", Broken)
    assert isal.erasure_code(["broken"]) is NUMPY


def test_what_is_found_by_itself_is_used() -> None:
    assert isal.erasure_code().name == ("NumPy" if not libraries() else f"ISA-L ({Path(libraries()[0]).name})")
