"""Ordinary scripts for jobs that will be harmed, and how to find them from outside."""

from __future__ import annotations

from random import Random
from typing import Final

import psutil

TRAIN: Final = b"""
import os, random, time
random.seed(7)
out = open(os.environ["SHOAL_OUT"] + "/log", "w")
total = 0
for epoch in range(4):
    for step in range(6):
        total = (total * 31 + random.randrange(1000)) % 1000003
        print(epoch, step, total, flush=True)
        out.write(f"{total}\\n")
        out.flush()
        time.sleep(float(os.environ.get("PAUSE", "0.05")))
out.close()
"""


def _expected() -> dict[str, bytes]:
    """What it puts out when nobody disturbs it."""
    dice, total, lines = Random(7), 0, []
    for _ in range(24):
        total = (total * 31 + dice.randrange(1000)) % 1000003
        lines.append(f"{total}\n")
    return {"log": "".join(lines).encode()}


EXPECTED: Final = _expected()
COMMAND: Final = "python $SHOAL_IN/train.py"

GREEDY: Final = b"""
import os, time
kept = []
for step in range(1000):
    print(step, flush=True)
    if os.path.exists(os.environ["SHOAL_OUT"] + "/greedy"):
        kept.append(bytearray(16 << 20))
    if step == 12:
        open(os.environ["SHOAL_OUT"] + "/greedy", "w").close()
    time.sleep(0.03)
"""

UNSUPPORTED: Final = b"""
import os, threading, time
def work():
    done = 0
    while done < 60:
        done += 1
        if done % 10 == 0:
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
"""Its loop runs beside the main thread, where the hook does not cut; it saves itself, as many scripts do."""


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
