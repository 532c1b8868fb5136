"""Runs a unit program as a sandbox does and says what of its CPU time was the work, and what was its proof.

    python unit_stopwatch.py PROGRAM ANSWER      in the job's folder, with the variables of specs/31-units.md

Run by the job's own interpreter, with `shoal_work` on the path. `work` is the time in the program's own methods,
`inside` that part of it which is done for the proof alone, `total` everything between the first line and the last.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path

import shoal_work  # type: ignore[import-not-found]

OWN = ("first", "step", "replay", "finish")
"""Methods of a program in which it works. One that another calls counts once."""

PROOF = (("training", "told"), ("training", "tree_sum"), ("inference", "_told"))
"""Functions of the guest's modules that nothing but a proof needs: gradients told, norms, fingerprints."""


class Stopwatch:
    """CPU seconds of this process, by what they were for."""

    def __init__(self) -> None:
        self.seconds = {"work": 0.0, "inside": 0.0}
        self._depth = {"work": 0, "inside": 0}

    def around(self, what: str, call: Callable[..., object]) -> Callable[..., object]:
        """The same function, timed; `inside` counts within `work` only."""

        def timed(*args: object, **named: object) -> object:
            began = time.process_time()
            self._depth[what] += 1
            try:
                return call(*args, **named)
            finally:
                self._depth[what] -= 1
                if not self._depth[what] and (what == "work" or self._depth["work"]):
                    self.seconds[what] += time.process_time() - began

        return timed


def main(program: str, answer: str) -> None:
    """Run the program and leave the seconds in the file `answer`."""
    watch = Stopwatch()
    run = shoal_work.run

    def timed(work: object) -> None:
        for name in OWN:
            setattr(work, name, watch.around("work", getattr(work, name)))
        for module, name in PROOF:
            owner = sys.modules.get(f"shoal_work.{module}")
            if owner is not None:
                setattr(owner, name, watch.around("inside", getattr(owner, name)))
        if os.environ.get("PART"):
            work.part = True  # type: ignore[attr-defined]
        began = time.process_time()
        run(work)
        total = time.process_time() - began
        Path(answer).write_text(json.dumps({**watch.seconds, "total": total}), encoding="ascii")

    shoal_work.run = timed
    importlib.invalidate_caches()
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(sys.argv[1]).resolve().parent))
    main(sys.argv[1], sys.argv[2])
