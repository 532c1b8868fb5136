"""Attack 53: the server of a private inference computes another function.

The defence: canaries with known answers, encrypted like all other rows, found wrong after decryption.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "fhe-inference"
PYTHON = REPOSITORY / ".venv-engines" / "bin" / "python"
ROWS = 4

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="TenSEAL is not here: `make engines` brings it")


def run(*words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(PYTHON), *map(str, words)]
    return subprocess.run(command, cwd=EXAMPLE, env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encrypted rows, and honest answers to them in `out`."""
    folder = tmp_path_factory.mktemp("fhe")
    (folder / "rows.json").write_text(
        json.dumps([[row / 10 + column / 64 for column in range(64)] for row in range(ROWS)])
    )
    assert run("client.py", "encrypt", folder / "rows.json", folder / "keys", folder / "send").returncode == 0
    (folder / "out").mkdir()
    done = run("serve.py", folder / "send", folder / "out", SHOAL_CHUNK="0", SHOAL_CHUNKS="1")
    assert done.returncode == 0, done.stderr
    return folder


def decrypt(folder: Path, result: Path) -> subprocess.CompletedProcess[str]:
    return run("client.py", "decrypt", folder / "keys", result, folder / "answers.json")


def test_the_honest_twin_is_right(served: Path) -> None:
    assert decrypt(served, served / "out").returncode == 0
    answers = json.loads((served / "answers.json").read_text())
    assert len(answers) == ROWS and all(len(answer) == 4 for answer in answers)
    assert run("check.py", served / "send", served / "out", SHOAL_CHUNK="0", SHOAL_CHUNKS="1").returncode == 0


def test_another_function_gives_a_wrong_canary(served: Path, tmp_path: Path) -> None:
    cheat = (EXAMPLE / "serve.py").read_text().replace("row.matmul(MATRIX) + BIAS", "row.matmul(MATRIX)")
    (tmp_path / "serve.py").write_text(cheat)
    (tmp_path / "model.py").write_text((EXAMPLE / "model.py").read_text())
    (tmp_path / "out").mkdir()
    done = run(tmp_path / "serve.py", served / "send", tmp_path / "out", SHOAL_CHUNK="0", SHOAL_CHUNKS="1")
    assert done.returncode == 0, done.stderr
    said = decrypt(served, tmp_path / "out")
    assert said.returncode == 1 and said.stderr.startswith("wrong_canary"), said.stderr
    shape = run("check.py", served / "send", tmp_path / "out", SHOAL_CHUNK="0", SHOAL_CHUNKS="1")
    assert shape.returncode == 0, "a stranger without the key cannot tell"


def test_garbage_is_no_answer(served: Path, tmp_path: Path) -> None:
    for file in (served / "out").iterdir():
        (tmp_path / file.name).write_bytes(b"garbage")
    assert "no ciphertext" in decrypt(served, tmp_path).stderr
    assert run("check.py", served / "send", tmp_path, SHOAL_CHUNK="0", SHOAL_CHUNKS="1").returncode == 1
