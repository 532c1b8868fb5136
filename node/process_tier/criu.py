"""The program CRIU: where our own build lies, which version it is, one bounded run of it, and why a run failed."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from node.config import default_home
from node.executors import process
from protocol.errors import Unavailable

VERSION_MIN: Final = (4, 2)
"""3.17 (Debian 12) fails its own check on kernel 6.18; 4.2 is what the recipe builds and what was measured."""

VERSION_SECONDS: Final = 5.0
"""For `criu --version`, which does nothing."""

LOG_TAIL_BYTES: Final = 65_536
"""How much of a log is read for its last error; a log of a large tree has megabytes."""

REASON_CHARS: Final = 200
"""A reason is one line for a person."""

VARIABLE: Final = "SHOAL_CRIU"
"""Names another build than the one below Shoal's data folder."""

CAP_SYS_RESOURCE: Final = 24
"""linux/capability.h: without it CRIU may not read the limits of another user's process."""

_ERROR: Final = re.compile(r"Error \([^)]*\): (.*)")
_HARMLESS: Final = ("tun: Unable to create tun", "rlimit: Can't setup RLIMIT_NOFILE")


@dataclass(frozen=True, slots=True)
class Criu:
    """One build."""

    path: Path
    version: str

    @property
    def is_new_enough(self) -> bool:
        """Whether it is at least VERSION_MIN."""
        numbers = tuple(int(part) for part in re.findall(r"\d+", self.version)[:2])
        return numbers >= VERSION_MIN


def own_build(environment: Mapping[str, str] = os.environ) -> Path:
    """Where packaging/criu/build.sh puts the program, unless SHOAL_CRIU names another."""
    if named := environment.get(VARIABLE):
        return Path(named)
    return default_home(environment) / "criu" / "sbin" / "criu"


def find(path: Path | None = None) -> Criu | None:
    """The program with its version; None where there is none that answers. Blocks for some milliseconds."""
    program = path or own_build()
    if not os.access(program, os.X_OK) or program.is_dir():
        return None
    try:
        answer = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"Version: (\d+(?:\.\d+)+)", answer.stdout)
    return Criu(program.resolve(), found[1]) if found else None


async def run(
    command: Sequence[str], seconds: float, *, folder: Path, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """(exit code, output). Killed with all that it started when the time is up (`criu_timeout`) or we are cancelled."""
    with trio.move_on_after(seconds):
        async with process.started(command, env=dict(env or {"PATH": os.defpath}), folder=folder) as child:
            text = bytearray()
            while data := await child.stdout.receive_some(process.PIPE_BYTES):
                text += data[: LOG_TAIL_BYTES - len(text)]
            return await child.wait(), text.decode("utf-8", "replace")
    raise Unavailable(f"{Path(command[0]).name} did not end within {seconds:g} s", code="criu_timeout")


def why(log: Path) -> str:
    """The cause of a failure from CRIU's log: its last error that is not about something we never use."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
            text = file.read(LOG_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return "it left no log"
    errors = [line for line in _ERROR.findall(text) if not line.startswith(_HARMLESS)]
    causes = [line for line in errors if not line.endswith("FAILED.")] or errors
    return causes[0][:REASON_CHARS] if causes else "its log names no error"


def borrows_uid() -> bool:
    """Whether CRIU needs the job's user id as its real one: root here lacks CAP_SYS_RESOURCE (a container, say)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return not int(line.split()[1], 16) >> CAP_SYS_RESOURCE & 1
    return True
