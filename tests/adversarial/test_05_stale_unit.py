"""Attack 05: a stale gradient or an earlier checkpoint is handed in again.

The defence: a leaf binds the unit's number and its input, which everybody makes from the job and the number alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.errors import Refused
from protocol.trace import TraceTree
from tests.adversarial.unit_stand import Stand, forged
from tests.node.proving.programs import WALK
from verifier.trace import check_opening

STALE = WALK.replace('Dice(self.seed, "rows", index)', 'Dice(self.seed, "rows", min(index, 2))')
"""From unit 3 on the rows of unit 2 are read again: a gradient that is there already."""


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


async def test_an_old_batch_read_again_is_another_schedule(stand: Stand) -> None:
    spec = stand.spec(WALK)
    done, trace = await stand.cheat(spec, STALE)
    assert await stand.audit(spec, done, trace, (0, 2)) == ""  # So far it was honest.
    assert await stand.audit(spec, done, trace, (4,)) == "bad_schedule"


HONEST_INPUT = """
    def input(self, index):
        return shoal_work.Dice(self.seed, "rows", index).integers(1000, 8).tobytes()

    def step"""

LIAR = (STALE.replace("def input(self", "def rows(self").replace("self.input(index)", "self.rows(index)")).replace(
    "    def step", HONEST_INPUT.lstrip("\n")
)
"""The same, but it says that it read what it should have read."""


async def test_an_old_batch_under_the_right_name_gives_another_state(stand: Stand) -> None:
    spec = stand.spec(WALK)
    done, trace = await stand.cheat(spec, LIAR)
    assert await stand.audit(spec, done, trace, (1,)) == ""
    assert await stand.audit(spec, done, trace, (4,)) == "unit_differs"


async def test_a_checkpoint_handed_in_twice_is_no_next_state(stand: Stand) -> None:
    spec = stand.spec(WALK)
    done, trace = await stand.run(spec)
    lazy = forged(trace, 4, state=trace.leaves[3].state)
    assert await stand.audit(spec, done, lazy, (3,)) == "unit_differs"


async def test_an_honest_trace_passes_unit_by_unit(stand: Stand) -> None:
    spec = stand.spec(WALK)
    done, trace = await stand.run(spec)
    assert await stand.audit(spec, done, trace, (0, 1, 3, 5)) == ""


async def test_a_leaf_of_an_earlier_unit_opens_at_no_other_place(stand: Stand) -> None:
    spec = stand.spec(WALK)
    _, trace = await stand.run(spec)
    tree = TraceTree(trace)
    stale = tree.open(2)
    moved = type(stale)(
        type(stale.leaf)(3, *[getattr(stale.leaf, name) for name in stale.leaf.__struct_fields__[1:]]), stale.path
    )
    assert check_opening(tree.root, 6, stale).index == 2
    with pytest.raises(Refused) as caught:
        check_opening(tree.root, 6, moved)
    assert caught.value.code == "bad_path"
