"""Random numbers that are a function of a place: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", 2011) over whole arrays, in integers.

A path keyed by (job seed, pixel, sample, bounce), or a stream keyed by (job seed, stream), gives the same numbers on
every machine, in any order and by any number of threads, so any part of a result can be computed again alone.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
"""Numbers below 2^32, kept in 64 bits because products of two of them are."""

ROUNDS = 10
"""As published; seven already pass the usual batteries of tests."""

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def key_of(seed: bytes, *purpose: str) -> tuple[int, int]:
    """The two words of a key for one use of a job's seed."""
    parts = [seed, *(word.encode() for word in purpose)]
    data = b"shoal/1\0philox\0" + b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    digest = hashlib.sha256(data).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def philox(key: tuple[int, int], *counter: npt.ArrayLike) -> tuple[Words, Words, Words, Words]:
    """Four words of 32 random bits for every counter: up to four numbers below 2^32, or arrays that fit one another.

    >>> [int(word) for word in philox((0, 0), 0, 0, 0, 0)] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    True
    """
    padded = [*counter, *(0 for _ in range(4 - len(counter)))]
    a, b, c, d = np.broadcast_arrays(*(np.asarray(word, dtype=np.uint64) & _MASK for word in padded))
    k0, k1 = key
    for _ in range(ROUNDS):
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            (second >> _HALF) ^ b ^ np.uint64(k0),
            second & _MASK,
            (first >> _HALF) ^ d ^ np.uint64(k1),
            first & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return a, b, c, d


def uniform(words: Words) -> npt.NDArray[np.float64]:
    """Words as numbers strictly between 0 and 1, exactly the middle of each of 2^32 steps."""
    return (words.astype(np.float64) + 0.5) * 2.0**-32


def circle(share: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(cosine, sine) of `share` of a full turn, to 1e-9, in additions and products alone: the sine of a mathematics
    library differs between machines in its last bit, and between their vector units."""
    eighth = np.floor(share * 8.0 + 0.5) * 0.125
    angle = (share - eighth) * (2.0 * math.pi)
    square = angle * angle
    sine = angle * (1.0 - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0))))
    cosine = 1.0 - square / 2.0 * (1.0 - square / 12.0 * (1.0 - square / 30.0 * (1.0 - square / 56.0)))
    step = (eighth * 8.0).astype(np.int64) % 8
    return cosine * _COSINES[step] - sine * _SINES[step], sine * _COSINES[step] + cosine * _SINES[step]


_ROOT = math.sqrt(0.5)
_COSINES = np.array([1.0, _ROOT, 0.0, -_ROOT, -1.0, -_ROOT, 0.0, _ROOT])
_SINES = np.array([0.0, _ROOT, 1.0, _ROOT, 0.0, -_ROOT, -1.0, -_ROOT])
