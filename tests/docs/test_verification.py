"""docs/verification.md: examples are read by the program, computed tables are the code's, all kinds are there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Final, get_args, get_type_hints

import pytest

from protocol import reasons
from protocol.operations import Verdict
from protocol.proof import Kind, Numeric, Proof
from protocol.trust import LEVEL_NAMES
from shoal.jobfile import read
from shoal.jobfile_proof import PROFILES, PROOF_KEYS

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "docs" / "verification.md").read_text(encoding="utf-8")
EXAMPLES: Final = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
HEAD: Final = "type: task\nname: example\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("main.py", "train.py", "solve.py", "check.py"):
        (tmp_path / name).write_text("x")
    return tmp_path


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_is_a_job(example: str, folder: Path) -> None:
    assert read(HEAD + example, folder, {}).spec.chunks


def test_the_computed_tables_are_current() -> None:
    writer = runpy.run_path(str(ROOT / "docs" / "write_verification.py"))
    assert writer["page"](TEXT) == TEXT, "run .venv/bin/python docs/write_verification.py"


def first_cells(title: str) -> list[str]:
    rows = TEXT[TEXT.index(title) :].split("\n\n")[0].splitlines()[2:]
    return [row.strip("|").split("|")[0].strip().strip("`") for row in rows]


def test_tables_have_every_kind_class_level_and_key() -> None:
    assert sorted(first_cells("| `class` | an auditor")) == sorted(get_args(Kind))
    assert first_cells("| `numeric` | results") == list(get_args(Numeric))
    assert sorted(first_cells("| key of `proof`")) == sorted(PROOF_KEYS)
    assert first_cells("| `trust` | audited") == list(LEVEL_NAMES)
    assert first_cells("| code |") == list(reasons.REASONS)


def test_every_finding_is_explained() -> None:
    assert sorted(first_cells("| finding |")) == sorted(get_args(get_type_hints(Verdict)["outcome"]))


def test_the_defaults_of_proof_are_true() -> None:
    plain = Proof(kind="general")
    cells = {
        row.strip("|").split("|")[0].strip().strip("`"): row.strip("|").split("|")[2].strip().strip("`")
        for row in TEXT[TEXT.index("| key of `proof`") :].split("\n\n")[0].splitlines()[2:]
    }
    assert (cells["units"], cells["samples"], cells["auditors"]) == (
        str(plain.units), str(plain.samples), str(plain.auditors)
    )  # fmt: skip


def test_named_tolerances_are_those_that_were_measured() -> None:
    named = set(re.findall(r"tolerance: (\S+/\S+)", TEXT))
    assert named <= set(PROFILES)
