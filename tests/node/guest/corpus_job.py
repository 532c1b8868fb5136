"""One process of a script, and the part of the node beside it: the folders, the orders on the board, the kill."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from node.guest.hook.board import Board
from tests.node.guest.corpus_scripts import ROOT, Script

HOOK: Final = ROOT / "node" / "guest" / "hook"
LOOK_S: Final = 0.001
"""Seconds between two looks at the board: a step of a small script takes about as long."""
JOB_S: Final = 120.0
"""Deadline of a script that needs five seconds on an idle machine."""
STDERR_SHOWN: Final = 1500
"""Characters of a failed script's last words."""

THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
GO_RESTORE: Final = 1


class JobFailed(Exception):
    """A script ended, or said, what it should not have."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left: the digest of each file in its out folder by name, and what it printed."""

    files: dict[str, str]
    stdout: bytes


class Job:
    """A script that runs in a folder of its own, with or without the hook. Leaving the context kills it."""

    def __init__(self, script: Script, folder: Path, *, is_hooked: bool = True, threads: int = 1) -> None:
        self.script, self.folder = script, folder
        self.snap, self.out = folder / "snap", folder / "out"
        for path in (self.snap, self.out, folder / "in", folder / "tmp", folder / "checkpoint"):
            path.mkdir(parents=True)
        for file in script.files:
            shutil.copy(file, folder / "in")
        self.board = Board.create(str(self.snap / "board"))
        self._is_hooked, self._threads = is_hooked, threads
        self._process: subprocess.Popen[bytes] | Forked | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        self.board.close()

    def start(self, warm: Warm | None = None) -> None:
        """Run the script, in a process group of its own; as a fork of a warm process where there is one."""
        if warm:
            self._process = warm.fork(self)
            return
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as err:
            self._process = subprocess.Popen(
                [str(self.script.python), self.script.main.name],
                cwd=self.folder / "in",
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def lay_out(self, snapshot: Path) -> None:
        """Put a snapshot where the hook looks for it, then let it go on from there."""
        shutil.copytree(snapshot, self.snap / "restore")
        self.board.set("go", GO_RESTORE)

    def cut(self) -> Path | None:
        """Order a snapshot and wait for it. None when the script ended first."""
        wanted = self.board.get("wanted") + 1
        self.board.set("wanted", wanted)
        if not self.wait(lambda: self.board.get("answered") >= wanted):
            return None
        folder = self.snap / str(self.board.get("number"))
        if not folder.is_dir():
            raise JobFailed(f"the board tells of snapshot {folder.name}, but there is none")
        return folder

    def wait(self, holds: Callable[[], bool]) -> bool:
        """Look until something holds (True) or the script has ended (False). JobFailed when the hook gives up."""
        deadline = time.monotonic() + JOB_S
        while not holds():
            if self.board.state == "disabled":
                raise JobFailed(f"disabled: {self.board.text}")
            if self._process and self._process.poll() is not None:
                return holds()
            if time.monotonic() > deadline:
                raise JobFailed(f"nothing happened for {JOB_S:.0f} s; {self.last_words()}")
            time.sleep(LOOK_S)
        return True

    def finish(self) -> Outcome:
        """Wait for the end. Raises JobFailed when it is not a good one."""
        assert self._process
        try:
            code = self._process.wait(JOB_S)
        except subprocess.TimeoutExpired:
            raise JobFailed(f"still running after {JOB_S:.0f} s; {self.last_words()}") from None
        if code:
            raise JobFailed(f"exit status {code}; {self.last_words()}")
        return Outcome(digests(self.out), self.stdout)

    def kill(self) -> None:
        """SIGKILL, to its workers as well."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def stdout(self) -> bytes:
        """What it has printed so far."""
        return (self.folder / "stdout").read_bytes()

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        return (self.folder / "stderr").read_text(encoding="utf-8", errors="replace")[-STDERR_SHOWN:].strip()

    def environment(self) -> dict[str, str]:
        """What a node sets for a job."""
        count = str(self._threads)
        values = {
            "PATH": os.defpath,
            "HOME": str(self.folder / "tmp"),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONHASHSEED": "0",
            "SHOAL_IN": str(self.folder / "in"),
            "SHOAL_OUT": str(self.out),
            **dict.fromkeys(THREADS, count),
        }
        if self._is_hooked:
            values |= {
                "PYTHONPATH": str(HOOK),
                "SHOAL_GUEST": str(HOOK),
                "SHOAL_SNAPSHOT_DIR": str(self.snap),
                "SHOAL_CHECKPOINT_DIR": str(self.folder / "checkpoint"),
            }
        return values


class Warm:
    """A process of `corpus_warm`, for scripts of one environment, one at a time. No two have the same addresses."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name("corpus_warm.py"))],
            env={"PATH": os.defpath, "PYTHONHASHSEED": "0", **dict.fromkeys(THREADS, "1")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def fork(self, job: Job) -> Forked:
        """Run the script of a job in a child of the warm process, with the hook where the job has it."""
        order = {"main": job.script.main.name, "folder": str(job.folder), "env": job.environment()}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return Forked(self)

    def answers(self, timeout: float | None) -> bool:
        """Whether it has something to say, now or in time."""
        assert self._process.stdout
        return bool(select.select([self._process.stdout], [], [], timeout)[0])

    def number(self) -> int:
        """What it says next. JobFailed where it has died."""
        assert self._process.stdout
        if not (line := self._process.stdout.readline()):
            raise JobFailed(f"the warm process ended with {self._process.wait()}")
        return int(line)

    def close(self) -> None:
        """End it."""
        self._process.communicate()


class Forked:
    """A script in a fork of a warm process: as much of a Popen as a job needs."""

    def __init__(self, warm: Warm) -> None:
        self._warm = warm
        self._code: int | None = None
        self.pid = warm.number()

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        if self._code is None and self._warm.answers(0):
            self._code = self._warm.number()
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises TimeoutExpired."""
        if self._code is None and not self._warm.answers(timeout):
            raise subprocess.TimeoutExpired("corpus_warm", timeout or 0)
        code = self.poll()
        assert code is not None
        return code


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}
