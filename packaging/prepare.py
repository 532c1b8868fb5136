"""Prepare a virtual environment from a lock file: `python3 packaging/prepare.py .venv requirements.lock`.

Runs on the bare system Python before anything is installed, so it uses the standard library only and also explains
itself to a Python that is too old to run Shoal. Says every few seconds how far it is.
"""

from __future__ import annotations

import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

PYTHON_MIN = (3, 11)
STALE_STUBS = "trio-stubs"
"""libp2p depends on trio-typing, whose type stubs of an old trio hide the types that trio itself brings."""
COMPILER_HINT = (
    "libp2p's fastecdsa is compiled here, which takes a C compiler, Python's headers and GMP's: "
    "on Debian or Ubuntu, `apt-get install build-essential python3-dev libgmp-dev`"
)
REPORT_INTERVAL_S = 2 if sys.stdout.isatty() else 10
"""A terminal shows one line that changes; a log gets a new line, so fewer of them."""


def explain_missing() -> str:
    """Why this Python cannot prepare an environment, with the fix; empty when it can."""
    if sys.version_info < PYTHON_MIN:
        found, wanted = ".".join(map(str, sys.version_info[:3])), ".".join(map(str, PYTHON_MIN))
        return f"Python {found} at {sys.executable} is too old: install Python {wanted} or newer and try again"
    try:
        import ensurepip  # noqa: F401  Debian splits it from the interpreter.
        import venv  # noqa: F401
    except ImportError:
        return f"{sys.executable} has no venv module: on Debian or Ubuntu, `apt-get install python3-venv`"
    return ""


def wanted_packages(lock: Path) -> int:
    """How many pins the lock has, at most: those for other systems are counted too."""
    return len(re.findall(r"^[A-Za-z0-9][^#\n]*==", lock.read_text(encoding="utf-8"), re.MULTILINE))


def run_reporting(command: list[str], title: str, total: int) -> tuple[int, list[str]]:
    """Run a command, saying now and then how many packages it has collected. Returns (exit code, its output)."""
    started, lines, collected = time.monotonic(), [], 0  # noqa: TID251  Nothing of Shoal is installed yet.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        incoming: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=pump, args=(process.stdout or (), incoming), daemon=True).start()
        line, phase, due = "\n", "downloading", started + REPORT_INTERVAL_S
        while line:
            try:
                line = incoming.get(timeout=0.2)
                lines.append(line)
                collected += line.startswith(("Collecting ", "Requirement already satisfied: "))
                phase = "installing" if line.startswith("Installing collected") else phase
            except queue.Empty:
                pass
            now = time.monotonic()  # noqa: TID251
            if now >= due:
                due = now + REPORT_INTERVAL_S
                say(f"{title}: {phase}, {collected} of at most {total} packages, {now - started:.0f} s")
    code = process.returncode
    seconds = time.monotonic() - started  # noqa: TID251
    say(f"{title}: {'ready' if code == 0 else 'failed'} after {seconds:.0f} s", is_last=True)
    return code, lines


def pump(lines: Iterable[str], into: queue.SimpleQueue[str]) -> None:
    """Move a child's output into a queue, line by line; the empty text is its end."""
    for line in lines:
        into.put(line)
    into.put("")


def say(text: str, is_last: bool = False) -> None:
    """One progress line: rewritten in place on a terminal, appended to a log."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{text}", end="\n" if is_last else "", flush=True)
    else:
        print(text, flush=True)


def main(folder: Path, lock: Path) -> int:
    """Create `folder` if it is missing and bring it to what `lock` says. Returns the exit code."""
    if problem := explain_missing():
        print(f"shoal: {problem}", file=sys.stderr)
        return 1
    python = folder / "bin" / "python"
    if not python.exists() or subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode:
        say(f"{folder}: making a virtual environment with Python {sys.version.split()[0]}")
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", folder], capture_output=True, text=True)
        if made.returncode:
            print(made.stdout + made.stderr, file=sys.stderr)
            return made.returncode
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off"]
    code, lines = run_reporting([*command, "-r", str(lock)], str(folder), wanted_packages(lock))
    if code:
        print("".join(lines[-40:]), file=sys.stderr)
        print(f"shoal: pip could not install {lock}; its last lines are above", file=sys.stderr)
        if "fastecdsa" in "".join(lines[-40:]):
            print(f"shoal: {COMPILER_HINT}", file=sys.stderr)
        return code
    for stubs in (folder / "lib").glob(f"python3*/site-packages/{STALE_STUBS}"):
        shutil.rmtree(stubs)
    (folder / f".ready-{lock.name}").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
