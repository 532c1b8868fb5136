"""The jobs of certificates that need ezkl and TenSEAL, done on a real network as their READMEs say."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.schemas import JobStatus
from protocol import genesis
from shoal import receipts
from shoal.client import FINAL_STATES, Client
from shoal.devnet import Devnet
from tests.end_to_end.conftest import Network
from tests.engines.conftest import ENGINES, why_not

ROOT: Final = Path(__file__).parents[2]
ROWS: Final = 5


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Two providers that offer the runtime `engines`: one computes, another checks."""
    if why := why_not("ezkl, onnx, tenseal"):
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("jobs")
    devnet = Devnet(folder / "net", lambda text: None, {"SHOAL_ENGINES_PYTHON": str(ENGINES)})
    state = devnet.up(2)
    try:
        with Client(state.gateway.url, state.gateway.token) as client:
            yield Network(devnet, state, client, folder)
    finally:
        killed = devnet.down()
    assert not killed, f"{killed} did not end when they were asked to"


def copied(example: str, folder: Path) -> Path:
    """An example's own files, without what somebody has made beside them."""
    target = folder / example
    made = shutil.ignore_patterns("build", "keys", "send", "results", "__pycache__")
    shutil.copytree(ROOT / "examples" / example, target, ignore=made)
    return target


def python(folder: Path, *words: str) -> None:
    """One of the renter's own commands."""
    command = [str(ENGINES), *words]
    home = {**os.environ, "HOME": str(folder)}  # ezkl makes a folder of its own below it.
    done = subprocess.run(command, cwd=folder, env=home, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def checked(network: Network, job_file: Path) -> JobStatus:
    """Submit it; every result must be looked at by the job's own check, and the receipts must add up."""
    submitted = network.client.submit(job_file)
    network.client.confirm(submitted.job)

    def over() -> JobStatus | None:
        status = network.client.status(submitted.job)
        return status if status.state in FINAL_STATES else None

    status = network.wait(f"{submitted.job} is over", over)
    assert status.state == "settled", (status.reason, status.chunks)
    assert {(chunk.outcome, chunk.code) for chunk in status.chunks} == {("accept", "check_passed")}
    known = genesis.from_json(Path(network.state.genesis).read_bytes())
    money = receipts.verify(network.client.receipt(submitted.job), known)
    assert sum(money.movements().values()) == 0 < money.paid + money.held
    return status


def test_every_proof_of_the_kernel_is_checked(network: Network, tmp_path: Path) -> None:
    folder = copied("zk-kernel", tmp_path)
    python(folder, "kernel.py", "build")
    status = checked(network, folder / "job.yml")
    saved = network.client.result(status.job, tmp_path / "results")
    assert sorted(file.path.name for file in saved) == ["proof.json"] * 4
    assert len({chunk.output for chunk in status.chunks}) == 4


def test_answers_on_encrypted_rows_come_back_right(network: Network, tmp_path: Path) -> None:
    folder = copied("fhe-inference", tmp_path)
    dice = random.Random(53)
    rows = [[dice.random() for _ in range(64)] for _ in range(ROWS)]
    (folder / "rows.json").write_text(json.dumps(rows))
    python(folder, "client.py", "encrypt", "rows.json", "keys", "send")
    status = checked(network, folder / "job.yml")
    network.client.result(status.job, folder / "results")
    python(folder, "client.py", "decrypt", "keys", "results", "answers.json")
    answers = json.loads((folder / "answers.json").read_text())
    python(
        folder,
        "-c",
        "import json, model; json.dump([*map(model.answer, json.load(open('rows.json')))], open('x', 'w'))",
    )
    known = json.loads((folder / "x").read_text())
    assert len(answers) == ROWS
    assert (
        max(abs(a - b) for row, right in zip(answers, known, strict=True) for a, b in zip(row, right, strict=False))
        < 1e-4
    )
