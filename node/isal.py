"""Reed–Solomon arithmetic by Intel ISA-L, through ctypes; NumPy's where there is no ISA-L. Spec: specs/26-shards.md.

The library comes from the distribution (`libisal.so.2`), or from inside the wheel of pyeclib, which keeps one for
itself. One that is found must first compute what NumPy computes.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from protocol.errors import LocalError
from protocol.units import KIB
from storage import erasure, galois
from storage.erasure import Code, ErasureCode, ReedSolomon
from storage.galois import Matrix

LIBRARY: Final = "libisal.so.2"
"""As Debian, Fedora and others install it; its second version has had one interface since 2014."""

WHEEL: Final = "pyeclib"
"""A package whose wheel brings ISA-L along, in a folder beside itself."""

TABLE_BYTES: Final = 32
"""What `ec_init_tables` writes for one coefficient."""

BLOCK_BYTES: Final = 64 * KIB
"""Of each shard per call: more than six rows take more than one pass over the data, which then is in the cache."""

PROBES: Final = (1, 15, 64, 1_031)
"""Lengths at which a library has to agree with NumPy: below, at and beside the width of its vectors."""


class IsaL:
    """Products by one loaded library. OSError or AttributeError when it is not ISA-L."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        self._encode: Callable[..., None] = library.ec_encode_data
        self._init: Callable[..., None] = library.ec_init_tables
        pointers = ctypes.POINTER(ctypes.c_void_p)
        library.ec_encode_data.argtypes = [
            ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_char_p, pointers, pointers,
        ]  # fmt: skip
        library.ec_encode_data.restype = None
        library.ec_init_tables.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p]
        library.ec_init_tables.restype = None
        self._tables = lru_cache(maxsize=32)(self._make_tables)

    def product(self, matrix: Matrix, data: Sequence[memoryview], into: Sequence[memoryview]) -> None:
        """See `storage.galois.product`. Python's lock is free meanwhile."""
        size, k, rows = len(data[0]), len(data), len(into)
        tables = self._tables(matrix)
        views = [np.frombuffer(view, np.uint8) for view in (*data, *into)]
        if not all(view.flags.writeable for view in views[k:]):
            raise LocalError("a product is written into a buffer that may not be written", code="read_only")
        bases = [view.ctypes.data for view in views]
        sources, targets = (ctypes.c_void_p * k)(), (ctypes.c_void_p * rows)()
        for start in range(0, size, BLOCK_BYTES):
            for index in range(k):
                sources[index] = bases[index] + start
            for index in range(rows):
                targets[index] = bases[k + index] + start
            self._encode(min(BLOCK_BYTES, size - start), k, rows, tables, sources, targets)

    def _make_tables(self, matrix: Matrix) -> ctypes.Array[ctypes.c_char]:
        k, rows = len(matrix[0]), len(matrix)
        tables = ctypes.create_string_buffer(TABLE_BYTES * k * rows)
        self._init(k, rows, b"".join(matrix), tables)
        return tables


def erasure_code(candidates: Iterable[str] | None = None) -> ErasureCode:
    """The fastest arithmetic here: of the first library that loads and computes rightly, else NumPy's."""
    for path in found() if candidates is None else candidates:
        try:
            product = IsaL(path).product
        except (OSError, AttributeError):
            continue
        if is_right(product):
            return ReedSolomon(product, f"ISA-L ({Path(path).name})")
    return erasure.NUMPY


def found() -> Iterator[str]:
    """Where ISA-L may be: the distribution's first, for it is kept up to date."""
    yield LIBRARY
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is not None and wheel.origin is not None:
        yield from sorted(str(path) for path in Path(wheel.origin).parents[1].glob(f"{WHEEL}.libs/libisal*.so*"))


def is_right(product: erasure.Product) -> bool:
    """Whether it computes what NumPy computes, for short and odd lengths too."""
    matrix = erasure.generator(Code(16, 32))[16:]
    for size in PROBES:
        data = [memoryview(bytes((7 * column + 13 * byte) & 0xFF for byte in range(size))) for column in range(16)]
        ours, theirs = ([memoryview(bytearray(size)) for _ in matrix] for _ in range(2))
        galois.product(matrix, data, ours)
        product(matrix, data, theirs)
        if ours != theirs:
            return False
    return True
