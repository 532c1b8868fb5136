"""Attack 46: a malformed proof: a huge length, a pickle, numbers out of bounds, a file that is cut off.

The defence: a strict parser with bounds, no pickle, and a child process that reads what strangers wrote. A million
inputs with `make fuzz`, some thousand otherwise.
"""

from __future__ import annotations

import os
import pickle
import random
import resource
import warnings
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from node.blobs import BlobStore
from node.proving.judgement import judge
from protocol.effects import Score, ScoreItem
from protocol.errors import Refused
from protocol.proof import Kind, Tolerance
from protocol.units import MIB
from tests.adversarial.unit_stand import AUDITOR, PROVIDER
from verifier import comparing
from verifier.tensors import Array, decode, encode

INPUTS: Final = 1_000_000 if os.environ.get("SHOAL_LONG") else 3_000
CHILDREN: Final = 200 if os.environ.get("SHOAL_LONG") else 8
GROWTH_MAX: Final = 64 * MIB
"""Bytes that the reading of all inputs may add to this process: one input has a few KiB."""

TOLERANCE: Final = Tolerance(t_ok=10**7, t_bad=4 * 10**9)
KINDS: Final[tuple[Kind, ...]] = ("training", "inference", "rendering", "scientific")
NAMES: Final = (
    "parameters/w", "momentum/w", "variance/w", "step", "losses", "gradient", "norms", "tokens", "prompt", "places",
    "values", "margins", "ending", "ends", "leaves", "answers", "sums", "squares", "n", "pixels", "pixel_sums", "range",
    "range_sums", "rows", "history", "bytes",
)  # fmt: skip
"""What the four comparisons look for, so that odd tensors come under the right names."""

NUMBERS: Final = (0, 1, -1, 0.5, 3, 255, 32_768, 65_497, 2**31, 2**53, 1e300, -1e300, 1e-300)
FORMS: Final = ("<f8", "<f4", "<f2", "<i8", "<i4", "<u8", "<u2", "|u1", "|b1")


def odd(dice: random.Random) -> dict[str, Array]:
    """Canonical tensors, of any shape and type, under names that mean something."""
    found: dict[str, Array] = {}
    for name in dice.sample(NAMES, dice.randint(0, 5)):
        shape = tuple(dice.choice((0, 1, 2, 3, 8)) for _ in range(dice.randint(0, 4)))
        count = int(np.prod(shape, dtype=int))
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = np.array([dice.choice(NUMBERS) for _ in range(count)], "<f8").astype(dice.choice(FORMS))
        found[name] = array.reshape(shape)
    return found if set(found) != {"bytes"} else {}


def broken(dice: random.Random, good: bytes) -> bytes:
    """One of the ways in which a file can be wrong."""
    data = bytearray(good)
    at = dice.randrange(len(data))
    match dice.randrange(8):
        case 0:
            data[at] ^= 1 << dice.randrange(8)
        case 1:
            del data[at:]
        case 2:
            data += dice.randbytes(dice.randint(1, 64))
        case 3:
            data[:8] = dice.choice((0, 7, 2**31, 2**63, 2**64 - 1, len(data))).to_bytes(8, "little")
        case 4:
            data[at:at] = data[dice.randrange(len(data)) :]
        case 5:
            length = dice.choice((b"1e9", b"-1", b"99999999999999999999", b"null", b"[]", b"{}", b"1.0", b"NaN"))
            data = bytearray(bytes(data).replace(b"1", length, dice.randint(1, 3)))
        case 6:
            data = bytearray(pickle.dumps({"w": dice.random()}))
        case _:
            data = bytearray(dice.randbytes(dice.randrange(256)))
    return bytes(data)


def memory() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_no_bytes_stop_the_parser_and_none_grow_it() -> None:
    dice = random.Random(46)
    before, found = 0, Counter[str]()
    for number in range(INPUTS):
        if number == 500:
            before = memory()
        data = broken(dice, encode(odd(dice)))
        try:
            again = decode(data)
        except Refused as error:
            assert error.code == "malformed_proof"
            found["refused"] += 1
        else:
            assert encode(again) == data
            found["other values"] += 1
    assert found["refused"] > INPUTS // 2 > found["other values"] > 0
    assert memory() - before < GROWTH_MAX


@pytest.mark.parametrize("kind", KINDS)
def test_no_tensors_stop_a_comparison(kind: Kind) -> None:
    """Whatever is in them, it answers with an error or refuses; an infinite error where nothing fits."""
    dice = random.Random(f"46 {kind}")
    answers = Counter[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Overflows of numpy, which the child does not show either.
        for _ in range(INPUTS // 10):
            start, claimed, replayed, claimed_aux, replayed_aux = (odd(dice) for _ in range(5))
            replayed = dice.choice((claimed, replayed))
            replayed_aux = dice.choice((claimed_aux, replayed_aux))
            try:
                answer = comparing.compare(kind, start, claimed, replayed, claimed_aux, replayed_aux, TOLERANCE)
            except Refused:
                answers["refused"] += 1
            else:
                line = comparing.scored(0, answer, TOLERANCE)
                assert 0 <= line.score <= 1_000_000
                answers["scored"] += 1
    assert sum(answers.values()) == INPUTS // 10


async def test_the_child_blames_who_made_it_and_the_judge_goes_on(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs", 64 * MIB)
    dice = random.Random(4646)
    state = {"parameters/w": np.arange(8, dtype=np.float32), "step": np.array([1])}
    aux = {"losses": np.ones(1), "norms": np.ones(1), "gradient": np.ones(4)}
    for number in range(CHILDREN):
        parts = {"start": encode(state), "claimed": encode(state), "claimed_aux": encode(aux)}
        parts |= {"replayed": encode(state), "replayed_aux": encode(aux)}
        name = dice.choice(sorted(parts))
        while True:
            parts[name] = broken(dice, parts[name])
            try:
                decode(parts[name])
            except Refused:
                break
        digests = {key: blobs.put(value) for key, value in parts.items()}
        score = Score("fuzz", "training", TOLERANCE, (ScoreItem(number, **digests),), PROVIDER, AUDITOR)
        found = await judge(score, blobs)
        expected = "auditor" if name.startswith("replayed") else "provider"
        assert (found.code, found.fault) == ("malformed_proof", expected)
    names = ("start", "claimed", "claimed_aux", "replayed", "replayed_aux")
    good = {name: blobs.put(encode(aux if name.endswith("aux") else state)) for name in names}
    honest = Score("honest", "training", TOLERANCE, (ScoreItem(0, **good),), PROVIDER, AUDITOR)
    assert (await judge(honest, blobs)).code in {"within_tolerance", "no_update"}
