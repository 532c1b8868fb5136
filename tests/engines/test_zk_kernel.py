"""The zero-knowledge example: an honest proof holds for its chunk, and nothing else does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "zk-kernel"
PYTHON = REPOSITORY / ".venv-engines" / "bin" / "python"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="ezkl is not here: `make engines` brings it")


def run(*words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(PYTHON), *map(str, words)]
    env["HOME"] = str(PYTHON.parents[1])  # ezkl makes a folder of its own below it.
    return subprocess.run(command, cwd=EXAMPLE, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A circuit with its keys in `build`, and chunk 3 proven in `out`."""
    folder = tmp_path_factory.mktemp("zk")
    built = run("kernel.py", folder / "build")
    assert built.returncode == 0, built.stderr
    (folder / "out").mkdir()
    done = run("prove.py", folder / "build", folder / "out", SHOAL_CHUNK="3")
    assert done.returncode == 0, done.stderr
    return folder


def check(folder: Path, result: Path, chunk: int = 3) -> subprocess.CompletedProcess[str]:
    return run("verify.py", folder / "build", result, SHOAL_CHUNK=str(chunk))


def test_an_honest_proof_holds(proven: Path) -> None:
    assert check(proven, proven / "out").returncode == 0
    assert [file.name for file in (proven / "out").iterdir()] == ["proof.json"]


def test_it_holds_for_its_own_chunk_only(proven: Path) -> None:
    said = check(proven, proven / "out", chunk=4)
    assert said.returncode == 1 and "another input" in said.stderr


def test_another_output_does_not_hold(proven: Path, tmp_path: Path) -> None:
    proof = json.loads((proven / "out" / "proof.json").read_text())
    proof["instances"][-1][-1] = proof["instances"][-1][-2]
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    said = check(proven, tmp_path)
    assert said.returncode == 1 and ("no proof" in said.stderr or "does not hold" in said.stderr), said.stderr


def test_a_changed_proof_does_not_hold(proven: Path, tmp_path: Path) -> None:
    proof = json.loads((proven / "out" / "proof.json").read_text())
    key = "proof" if isinstance(proof["proof"], list) else "hex_proof"
    proof[key][100] ^= 1
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    assert check(proven, tmp_path).returncode == 1
