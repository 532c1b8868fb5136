"""A job computed in units that anybody can replay.

    import shoal_work

    class Walk(shoal_work.Work):
        def first(self):
            return {"x": numpy.zeros(3)}
        def step(self, state, index):
            return {"x": state["x"] + index}, {}

    shoal_work.run(Walk())

This file is laid out as the package's own `__init__.py`, beside its modules. Where no node runs the job, `run` computes
every unit in this folder, without a trace.
"""

from .dice import Dice
from .runner import run
from .tensors import Malformed, State, decode, encode
from .work import Aux, Work

__all__ = ["Aux", "Dice", "Malformed", "State", "Work", "decode", "encode", "run"]
