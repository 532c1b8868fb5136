"""Unit programs for tests, small enough that a sandbox starts longer than they run."""

from __future__ import annotations

from typing import Final

WALK: Final = """
import hashlib, os
import numpy
import shoal_work

class Walk(shoal_work.Work):
    def first(self):
        return {"x": shoal_work.Dice(self.seed, "first").uniform(64), "step": numpy.array(0)}

    def input(self, index):
        return shoal_work.Dice(self.seed, "rows", index).integers(1000, 8).tobytes()

    def step(self, state, index):
        rows = numpy.frombuffer(self.input(index), "<i8")
        after = {"x": state["x"] + rows.sum() / 1024, "step": state["step"] + 1}
        return after, {"mean": after["x"].mean(keepdims=True)}

    def finish(self, state, out):
        (out / "sum.txt").write_text("%.6f\\n" % float(state["x"].sum()))

shoal_work.run(Walk())
"""
"""Six and more exact steps, whose data the seed decides."""

BYTES: Final = """
import hashlib
import shoal_work

class Chain(shoal_work.Work):
    def first(self):
        return self.seed
    def step(self, state, index):
        return hashlib.sha256(state + bytes([index])).digest(), {}

shoal_work.run(Chain())
"""
"""States that are plain bytes."""
