"""Starts a script with the hook, as a node does: a board, a snapshot folder, an output folder; kill and resume."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from node.guest.hook.board import Board

HOOK: Final = Path(__file__).parents[3] / "node" / "guest" / "hook"
FIXED: Final = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""What every run of a script has. Sums of one thread: torch's others spin beside everything that runs meanwhile."""
WAIT_S: Final = 60.0


class Hooked:
    """One process with the hook. `snapshot` is laid out to be restored."""

    def __init__(self, script: Path, folder: Path, python: str = sys.executable, snapshot: Path | None = None) -> None:
        self.snap, self.out = folder / "snap", folder / "out"
        for item in (self.snap, self.out):
            item.mkdir(parents=True)
        self.board = Board.create(str(self.snap / "board"))
        if snapshot:
            shutil.copytree(snapshot, self.snap / "restore")
            self.board.set("go", 1)
        self._script, self._python = script, python
        self._shown = folder / "shown"
        self._gate = script.with_name("gate")

    def start(self, *, is_shut: bool = False) -> None:
        """Run the script. Shut: it stays before its gate, where it has one, until that is opened or it is cut."""
        if is_shut:
            self._gate.touch()
        environment = {
            **os.environ, "SHOAL_SNAPSHOT_DIR": str(self.snap), "SHOAL_OUT": str(self.out), "PYTHONPATH": str(HOOK),
            "SHOAL_GUEST": str(HOOK), "SHOAL_IN": str(self._script.parent), **FIXED,
        }  # fmt: skip
        with self._shown.open("wb") as shown:
            self.process = subprocess.Popen(
                [self._python, self._script.name],
                cwd=self._script.parent, env=environment, stdout=shown, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait_for(self, field: str, least: int) -> None:
        """Until a field of the board has a value, or the process has ended."""
        limit = time.monotonic() + WAIT_S
        while self.board.get(field) < least and self.process.poll() is None:
            assert time.monotonic() < limit, f"{field} stays {self.board.get(field)}"
            time.sleep(0.002)

    def open_gate(self) -> None:
        """Let it go on to its end."""
        self._gate.unlink()

    def cut(self, at_step: int) -> Path:
        """Order a snapshot from `at_step` on, and kill the process when it is there."""
        self.wait_for("steps", at_step)
        self.board.set("wanted", self.board.get("wanted") + 1)
        self.wait_for("answered", self.board.get("wanted"))
        assert self.process.poll() is None, self.shown()
        number = self.board.get("number")
        self.kill()
        self.open_gate()
        return self.snap / str(number)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def end(self) -> dict[str, bytes]:
        """Wait for the end; what is in the output folder."""
        assert self.process.wait(WAIT_S) == 0, self.shown()
        return {path.name: path.read_bytes() for path in self.out.iterdir()}

    def shown(self) -> str:
        """What the process printed."""
        return self._shown.read_text()
