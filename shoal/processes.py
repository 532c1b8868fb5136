"""Processes of a local network: started apart from the terminal, watched through pidfds, ended for certain."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from node.clock import Clock
from protocol.errors import Unavailable
from protocol.units import SECOND

POLL_S: Final = 0.05
"""Between two looks at a condition that nobody announces, at first."""

POLL_MAX_S: Final = 0.25
"""Between two looks at one that takes long: each costs an HTTP request or a question to a node."""

POLL_SHARE: Final = 20
"""In between, a look comes after a 20th of the time that was waited already: it is seen 5 % late at most."""

END_GRACE_S: Final = 20.0
"""Seconds that a process gets to end by itself."""

TAIL_LINES: Final = 12
T = TypeVar("T")


class Child:
    """One started process and its log."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=environment,
                start_new_session=True,
                cwd="/",
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def require_alive(self) -> None:
        """Raise Unavailable with the end of its log when it has ended."""
        code = self.exit_code
        if code is not None:
            raise Unavailable(
                f"{self.name} ended with exit code {code}: {_last_words(self.log)}",
                code="process_ended",
                fix=f"Its log is {self.log}.",
            )

    def kill(self) -> None:
        """SIGKILL, and bury it."""
        self._process.kill()
        self._process.wait()

    def reap(self) -> None:
        """Forget a process that somebody ended."""
        self._process.wait()

    def release(self) -> None:
        """Let it live on after us."""
        self._process.returncode = 0  # Popen would warn about a child that is still running.


def shoal_command(*words: str) -> list[str]:
    """How this program starts itself, in a checkout, a wheel or frozen."""
    if getattr(sys, "frozen", False):
        return [sys.executable, *words]
    return [sys.executable, "-P", "-m", "shoal", *words]


def shoal_environment(**extra: str) -> dict[str, str]:
    """Our environment, without settings that are meant for one node, and with this very Shoal importable."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SHOAL_") or key == "SHOAL_HOME"}
    root = str(Path(__file__).parent.parent)
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    return kept | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | extra


def until(what: str, check: Callable[[], T | None], children: Sequence[Child], seconds: float) -> T:
    """The first answer of `check` that is not None. Unavailable when a child ends or the time is up."""
    clock = Clock()
    began = clock.now()
    while (found := check()) is None:
        for child in children:
            child.require_alive()
        waited = (clock.now() - began) / SECOND
        if waited > seconds:
            logs = ", ".join(str(child.log) for child in children)
            raise Unavailable(
                f"{what}: not after {seconds:g} s", code="start_timeout", fix=f"Look at the logs: {logs}."
            )
        time.sleep(min(max(POLL_S, waited / POLL_SHARE), POLL_MAX_S))
    return found


def end_all(pids: Sequence[int], seconds: float = END_GRACE_S) -> list[int]:
    """SIGTERM to all at once, SIGKILL to those that are still there in the end; returns the latter."""
    watched: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            watched[os.pidfd_open(pid)] = pid
    try:
        for file in watched:
            _send(file, signal.SIGTERM)
        stubborn = _wait(set(watched), seconds)
        for file in stubborn:
            _send(file, signal.SIGKILL)
        _wait(stubborn, seconds)
        return [watched[file] for file in stubborn]
    finally:
        for file in watched:
            os.close(file)


def _send(file: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(file, number)


def _wait(files: set[int], seconds: float) -> set[int]:
    """Those that still run when the time is up."""
    clock = Clock()
    ends = clock.now() + int(seconds * SECOND)
    poll = select.poll()
    left = set(files)
    for file in left:
        poll.register(file, select.POLLIN)
    while left and (span := ends - clock.now()) > 0:
        for file, _ in poll.poll(span // 1000 + 1):
            poll.unregister(file)
            left.discard(file)
    return left


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines[-TAIL_LINES:] if "error" in line.lower()]
    return (errors or lines or ["its log is empty"])[-1].strip()
