"""How `proof`, `numeric` and `trust` of a job file are read: what kind of work it is, and how sure you want to be.

Guide: docs/verification.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final, TypeVar, get_args

from msgspec import UNSET, UnsetType

from protocol import yaml_values
from protocol.proof import PPT, SAMPLES_MAX, UNITS_MAX, WORK_MAX, Kind, Numeric, Proof, Tolerance
from protocol.trust import LEVEL_NAMES, LEVELS, Level
from protocol.yaml_nodes import Items, Node, Pairs, wrong
from shoal.job_steps import read_lines
from shoal.jobfile_hardware import read_hardware
from verifier import calibration

PROOF_KEYS: Final = frozenset(
    ["class", "units", "samples", "auditors", "numeric", "tolerance", "check", "flops", "bytes", "hardware"]
)

TOLERANCE_KEYS: Final = frozenset(["ok", "bad", "profile"])

KINDS: Final[Mapping[str, Kind]] = MappingProxyType({kind: kind for kind in get_args(Kind)})

NUMERICS: Final[Mapping[str, Numeric]] = MappingProxyType({name: name for name in get_args(Numeric)})

LEVELS_BY_NAME: Final[Mapping[str, Level]] = MappingProxyType({name: name for name in LEVEL_NAMES})

PROFILES: Final[Mapping[str, Tolerance]] = MappingProxyType(
    {f"{one.task}/{one.optimizer}": one.tolerance for one in calibration.PROFILES}
)
"""Measured tolerances by task and optimizer, as docs/honest-matrix.md has them: for the model that they name."""

CHECKS_MAX: Final = 8
AUDITORS_MAX: Final = 5

T = TypeVar("T")
_KIND_FORM: Final = f"one of {', '.join(KINDS)}"
_NUMERIC_FORM: Final = "D0, D1, D2 or D3"
_LEVEL_FORM: Final = f"one of {', '.join(LEVEL_NAMES)}"
_ERROR_FORM: Final = "an error such as 0.00025 or 2.5e-4"
_TOLERANCE_FORM: Final = f"one of {', '.join(PROFILES)}, or a map such as {{ok: 2.5e-4, bad: 2e-3}}"
_COUNT_FORM: Final = "a number such as 2.5e12"
_COUNT: Final = re.compile(r"\d{1,20}(?:\.\d{1,12})?(?:[eE]\+?\d{1,2})?")
_ERROR: Final = re.compile(r"\d{1,6}(?:\.\d{1,12})?(?:[eE][+-]?\d{1,2})?")
_LOOKALIKES: Final = {
    "ml": "Say `class: training` or `class: inference`.",
    "kind": "The key is called `class`.",
    "steps": "The key is called `units`.",
    "k": "The key is called `samples`.",
    "flop": "The key is called `flops`: operations of one chunk, not per second.",
    "bytes_moved": "The key is called `bytes`.",
    "tee": "The key is called `hardware`.",
    "attestation": "The key is called `hardware`.",
}


def read_proof(node: Node, key: str) -> Proof:
    """`{class: training, units: 12, samples: 4, auditors: 1, tolerance: …, check: […]}`; only `class` must be there."""
    said = yaml_values.pairs(node, key, PROOF_KEYS, _LOOKALIKES)
    if "class" not in said:
        fix = f"Add `class`, {_KIND_FORM}."
        raise wrong(node.place, f"{key}.class", f"expected {_KIND_FORM}, found nothing", fix,
                                code="missing_key")  # fmt: skip
    units = yaml_values.integer(said["units"], f"{key}.units", 0, UNITS_MAX) if "units" in said else 0
    return Proof(
        kind=_choice(said["class"], f"{key}.class", KINDS, _KIND_FORM),
        units=units,
        samples=_samples(said, key, units),
        auditors=yaml_values.integer(said["auditors"], f"{key}.auditors", 1, AUDITORS_MAX) if "auditors" in said else 1,
        tolerance=_tolerance(said["tolerance"], f"{key}.tolerance") if "tolerance" in said else UNSET,
        check=_checks(said["check"], f"{key}.check") if "check" in said else (),
        flops=_count(said["flops"], f"{key}.flops") if "flops" in said else UNSET,
        bytes_moved=_count(said["bytes"], f"{key}.bytes") if "bytes" in said else UNSET,
        hardware=read_hardware(said["hardware"], f"{key}.hardware") if "hardware" in said else UNSET,
    )


def read_numeric(top: Mapping[str, Node], runtime: str) -> Numeric:
    """WASM is exact everywhere; the rest among machines of one runtime digest, unless the job says otherwise. It may
    stand at the top or in `proof`; in both, it must say the same."""
    places = [("numeric", top["numeric"])] if "numeric" in top else []
    proof = top.get("proof")
    if isinstance(proof, Pairs):
        places += [("proof.numeric", value) for name, value in proof.values if name.text == "numeric"]
    if not places:
        return "D0" if runtime == "wasm" else "D2"
    found = [_choice(node, key, NUMERICS, _NUMERIC_FORM) for key, node in places]
    key, node = places[-1]
    if len(set(found)) > 1:
        fix = "Say `numeric` once, at the top or in `proof`."
        raise yaml_values.mismatch(node, key, f"{found[0]}, as `numeric` at the top says", fix)
    if runtime == "wasm" and found[0] != "D0":
        raise yaml_values.mismatch(node, key, "D0 for wasm", "Leave `numeric` out: WASM is exact everywhere.")
    return found[0]


def read_trust(top: Mapping[str, Node]) -> Level | UnsetType:
    """The level, where one is said. `audit` says the same in another way."""
    if "trust" not in top:
        return UNSET
    level = _choice(top["trust"], "trust", LEVELS_BY_NAME, _LEVEL_FORM)
    if "audit" in top:
        share = LEVELS[level].floor_ppm / 10_000
        detail = f"`trust: {level}` audits {share:g} % of the results, and `audit` says a share too"
        raise wrong(top["audit"].place, "audit", detail, "Leave one of the two out.", code="bad_job_file")
    return level


def inside(proof: Node | None, pointer: str) -> tuple[Node, str] | None:
    """The node inside `proof` that a JSON pointer of the specification means, and its key; None when it is no such."""
    name = {"/numeric": "numeric", "/proof/kind": "class"}.get(pointer, pointer.removeprefix("/proof/").split("/")[0])
    if isinstance(proof, Pairs):
        for key, value in proof.values:
            if key.text == name:
                return value, f"proof.{name}"
    return None


def _choice(node: Node, key: str, known: Mapping[str, T], form: str) -> T:
    text = yaml_values.word(node, key, form)
    if text not in known:
        raise yaml_values.mismatch(node, key, form, yaml_values.unknown(text, known, f"Write {form}."))
    return known[text]


def _samples(said: Mapping[str, Node], key: str, units: int) -> int:
    if "samples" not in said:
        return Proof(kind="general").samples
    samples = yaml_values.integer(said["samples"], f"{key}.samples", 1, SAMPLES_MAX)
    if samples > max(1, units):
        what = f"at most the {units} units that there are" if units else "1: without `units` the whole chunk is one"
        raise yaml_values.mismatch(said["samples"], f"{key}.samples", what, "Raise `units`, or lower `samples`.")
    return samples


def _tolerance(node: Node, key: str) -> Tolerance:
    if not isinstance(node, Pairs):
        return _choice(node, key, PROFILES, _TOLERANCE_FORM)
    said = yaml_values.pairs(node, key, TOLERANCE_KEYS, {"t_ok": "Write `ok`.", "t_bad": "Write `bad`."})
    for name in ("ok", "bad"):
        if name not in said:
            raise wrong(node.place, f"{key}.{name}", f"expected {_ERROR_FORM}, found nothing",
                                    "Give both: {ok: 2.5e-4, bad: 2e-3}.", code="missing_key")  # fmt: skip
    profile = yaml_values.word(said["profile"], f"{key}.profile", "a name of at most 64 letters")[:64] \
        if "profile" in said else ""  # fmt: skip
    return Tolerance(
        t_ok=_error(said["ok"], f"{key}.ok", 1),
        t_bad=_error(said["bad"], f"{key}.bad", 1000),
        profile=profile,
    )


def _error(node: Node, key: str, largest: int) -> int:
    """Parts per trillion of an error."""
    text = yaml_values.scalar(node, key, _ERROR_FORM)
    if not _ERROR.fullmatch(text):
        raise yaml_values.mismatch(node, key, _ERROR_FORM)
    parts = int(Decimal(text) * PPT)
    if not 1 <= parts <= largest * PPT:
        raise yaml_values.mismatch(node, key, f"an error from 1e-12 to {largest}")
    return parts


def _count(node: Node, key: str) -> int:
    """How much of something one chunk takes."""
    text = yaml_values.scalar(node, key, _COUNT_FORM)
    if not _COUNT.fullmatch(text):
        raise yaml_values.mismatch(node, key, _COUNT_FORM)
    count = int(Decimal(text))
    if not 1 <= count <= WORK_MAX:
        raise yaml_values.mismatch(node, key, f"a number from 1 to {WORK_MAX:.1e}")
    return count


def _checks(node: Node, key: str) -> tuple[str, ...]:
    lines = read_lines(node, key)
    if isinstance(node, Items) and len(lines) > CHECKS_MAX:
        raise yaml_values.mismatch(node, key, f"at most {CHECKS_MAX} lines", "Put them into one script.")
    return lines
