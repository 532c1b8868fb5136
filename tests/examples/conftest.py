"""Running an example's programs the way a sandbox does: folders and variables, nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from shoal.jobfile import JobFile, load

ROOT: Final = Path(__file__).parents[2]

RunJob = Callable[[str, Path, Mapping[str, str], Path], dict[str, bytes]]


def lay_out(job: JobFile, folder: Path) -> None:
    """The job's input files below the folder."""
    for file in job.files:
        target = folder / file.ref.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.source.read_bytes())


def run_step(job: JobFile, chunk: int, inside: Path, outside: Path, env: Mapping[str, str], python: Path) -> str:
    """One step's lines under `sh -e`; what it printed. Chunk `len(chunks)` is the reduce step."""
    spec = job.spec
    is_reduce = chunk == len(spec.chunks)
    outside.mkdir(parents=True)
    variables = {**dict(spec.env), **({} if is_reduce else dict(spec.chunks[chunk].env)), **env}
    place = {
        "SHOAL_CHUNK": str(chunk),
        "SHOAL_CHUNKS": str(len(spec.chunks)),
        "SHOAL_IN": str(inside),
        "SHOAL_OUT": str(outside),
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "HOME": str(outside.parent),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    lines = "\n".join(spec.reduce if is_reduce else spec.commands)
    done = subprocess.run(
        ["sh", "-e", "-c", lines], cwd=inside, env={**variables, **place}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_job_at(name: str, folder: Path, env: Mapping[str, str], python: Path) -> dict[str, bytes]:
    """All steps of an example in order, with some variables changed; the files of the job's result."""
    job = load(ROOT / "examples" / name / "job.yml", {})
    inside = folder / "in"
    lay_out(job, inside)
    for chunk in range(len(job.spec.chunks)):
        run_step(job, chunk, inside, inside / "chunks" / str(chunk), env, python)
    run_step(job, len(job.spec.chunks), inside, folder / "out", env, python)
    return {path.relative_to(folder / "out").as_posix(): path.read_bytes() for path in (folder / "out").iterdir()}


@pytest.fixture
def run_job() -> RunJob:
    """(example's name, empty folder, variables to change, interpreter) -> files of the result."""
    return run_job_at
