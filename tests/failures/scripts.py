"""Ordinary scripts for jobs that will be harmed, and how to find them from outside."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final

import psutil

ENOUGH: Final = "enough"
"""An input by which a script is told to end: until it lies there, no script here ends by itself, however long the test
that cuts it is kept from running. Laid with the job's files, or later by `let_end`."""

FOUR: Final = {ENOUGH: b"4"}
"""Among a job's files: it ends after its fourth epoch, or after the one in which it goes on."""

TRAIN: Final = b"""
import os, random, time
random.seed(7)
out = open(os.environ["SHOAL_OUT"] + "/log", "w")
enough = os.environ["SHOAL_IN"] + "/enough"
total = 0
for epoch in range(1000000):
    for step in range(6):
        total = (total * 31 + random.randrange(1000)) % 1000003
        print(epoch, step, total, flush=True)
        out.write(f"{total}\\n")
        out.flush()
        time.sleep(float(os.environ.get("PAUSE", "0.05")))
    if os.path.exists(enough) and epoch + 1 >= int(open(enough).read()):
        break
out.close()
"""


def is_undisturbed(output: dict[str, bytes]) -> bool:
    """Whether TRAIN put out, in four epochs or more, what it puts out when nobody disturbs it."""
    dice, total, lines = Random(7), 0, []
    count = output["log"].count(b"\n")
    for _ in range(count):
        total = (total * 31 + dice.randrange(1000)) % 1000003
        lines.append(f"{total}\n")
    return output == {"log": "".join(lines).encode()} and count >= 24 and count % 6 == 0


COMMAND: Final = "python $SHOAL_IN/train.py"

GREEDY: Final = b"""
import os, time
kept = []
for step in range(1000000):
    print(step, flush=True)
    if os.path.exists(os.environ["SHOAL_IN"] + "/enough"):
        kept.append(bytearray(16 << 20))
    time.sleep(0.03)
"""
"""Modest until it is told to end, which it does by taking more memory than it has."""

UNSUPPORTED: Final = b"""
import os, threading, time
def work():
    done = 0
    while not os.path.exists(os.environ["SHOAL_IN"] + "/enough"):
        done += 1
        if done in (10, 20):
            path = os.environ["SHOAL_CHECKPOINT_DIR"] + "/model.txt"
            with open(path + ".tmp", "w") as file:
                file.write(str(done))
                file.flush()
                os.fsync(file.fileno())
            os.rename(path + ".tmp", path)
            open(os.environ["SHOAL_CHECKPOINT_DIR"] + "/latest", "w").close()
        print("step", done, flush=True)
        time.sleep(0.04)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
"""Its loop runs beside the main thread, where the hook does not cut; it saves itself twice, as many scripts do."""


def let_end(tasks: Path, text: str = "4") -> None:
    """Tell the scripts in a host's folder of tasks that it is enough. A reader finds nothing or the whole word."""
    for task in tasks.iterdir():
        part = task / "part-of-enough"
        part.write_text(text)
        part.rename(task / "in" / ENOUGH)


def interpreters(name: str = "train.py") -> list[psutil.Process]:
    """The Python processes below this one that run a script of this name."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if len(line) > 1 and "python" in line[0] and line[-1].endswith(name):
            found.append(process)
    return found
