"""examples/inference-units: runs on the laid-out guest, and every unit replays to the same bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from node.proving.program import FACE
from protocol.proof import Proof
from shoal.jobfile import load

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "examples" / "inference-units"


def run(inside: Path, out: Path, words: Mapping[str, str]) -> Path:
    """One execution of the program as a sandbox sees it; the folder with its units."""
    out.mkdir()
    place = {"SHOAL_IN": str(inside), "SHOAL_OUT": str(out), "PYTHONPATH": str(inside / ".shoal"), "SHOAL_UNITS": "5"}
    done = subprocess.run(
        [sys.executable, "answer.py"], cwd=inside, env={**place, **words, "OMP_NUM_THREADS": "1"}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    return out / ".shoal"


def laid_out(folder: Path) -> Path:
    """The job's files, and the guest's package as the node lays it."""
    inside = folder / "in"
    shutil.copytree(FOLDER, inside)
    package = inside / ".shoal" / "shoal_work"
    shutil.copytree(ROOT / "node" / "guest" / "work", package)
    (package / FACE).replace(package / "__init__.py")
    return inside


def test_every_unit_replays_to_the_same_bytes(tmp_path: Path) -> None:
    inside = laid_out(tmp_path)
    made = run(inside, tmp_path / "out", {"SHOAL_PROOF": "run", "SHOAL_SEED": "07" * 32})
    (inside / ".shoal" / "open").mkdir()
    for index in range(5):
        shutil.copy(made / f"{index}.state", inside / ".shoal" / "open")
    words = {"SHOAL_REPLAY": "0,1,2,3,4", "SHOAL_CHALLENGE": "", "SHOAL_PROOF": "replay", "SHOAL_SEED": "07" * 32}
    replayed = run(inside, tmp_path / "replayed", words)
    for index in range(5):
        for kind in ("aux", "input"):
            assert (made / f"{index}.{kind}").read_bytes() == (replayed / f"{index}.{kind}").read_bytes(), index
    answers = json.loads((tmp_path / "out" / "answers.json").read_text())
    assert len(answers) == 12
    text = "".join(chr(token + 32) for token in answers[0] if token < 95)
    assert sum(character.isalpha() or character == " " for character in text) > 0.6 * len(text), text


def test_the_job_says_how_it_is_proven() -> None:
    spec = load(FOLDER / "job.yml", {}).spec
    assert isinstance(spec.proof, Proof)
    assert (spec.proof.kind, spec.numeric, spec.units) == ("inference", "D1", 5)
