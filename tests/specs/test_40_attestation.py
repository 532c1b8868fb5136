"""specs/40-attestation.md against the verifier."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import proof, quote_messages
from protocol.units import PPM, PeerId
from verifier import deadlines, quoting
from verifier.attestation import answering, chains, fields, policy, quote

SPEC = specs.load("40-attestation")
HOLDERS = (fields, chains, policy, quote_messages, proof, deadlines, quoting, answering)
ANSWERING = {"not_accepted", "not_a_validator"}
"""What the attestant says of who asks: no judgement of a quote."""
hashes = st.binary(min_size=32, max_size=32)


def test_constants_are_those_of_the_code() -> None:
    found = {name: getattr(module, name) for module in HOLDERS for name in dir(module)}
    assert {name: found[name] for name in SPEC.constants} == SPEC.constants


def test_every_maker_is_described() -> None:
    assert {row["maker"] for row in SPEC.table("quotes")} == set(get_args(quote.Maker))
    assert {row["field"] for row in SPEC.table("what a job says")} == set(proof.Hardware.__struct_fields__)


def test_every_code_is_explained() -> None:
    files = Path(chains.__file__ or "").parent.glob("*.py")
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    given_codes = set(re.findall(r'code="(\w+)"', source)) | {fields.MALFORMED}
    assert {row["code"] for row in SPEC.table("rules")} == given_codes - ANSWERING


@given(hashes, hashes, st.integers(0, 4096), st.integers(1, 1000), hashes, hashes)
def test_binding(provider: bytes, escrow: bytes, chunk: int, epoch: int, sealed: bytes, beacon: bytes) -> None:
    place = (escrow, chunk, epoch, sealed, beacon)
    assert quote_messages.binding(PeerId(provider), *place) == SPEC.functions["binding"](provider, *place)


@given(st.integers(0, PPM), st.integers(0, PPM))
def test_attested_rate(rate: int, floor: int) -> None:
    found = policy.attested_ppm(rate, floor)
    assert found == SPEC.functions["attested_ppm"](rate, floor)
    assert min(rate, floor) <= found <= rate


@given(st.integers(0, PPM - 1), st.integers(0, PPM), st.integers(0, PPM))
def test_course(draw: int, rate: int, floor: int) -> None:
    """Only those are asked for whom an answer changes anything."""
    said = SPEC.functions["course"](draw, rate, floor)
    assert (said == "accept") == (draw >= rate)
    assert (said == "ask") == (policy.attested_ppm(rate, floor) <= draw < rate)
