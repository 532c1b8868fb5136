"""Attack 21: splice in a leaf of another job, of another unit, or of the same trace at another index."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from protocol.errors import Refused
from protocol.messages import Reveal
from protocol.proof import Opening
from protocol.trace import TraceTree, decode_trace
from protocol.units import PPM
from simulations.units import EXACT, Conduct
from tests.verifier.court import ESCROW, PROVIDER, SALT
from tests.verifier.unit_court import UNITS, UnitCourt, skipping, unit_job
from verifier.trace import check_opening


def tree(court: UnitCourt) -> TraceTree:
    """Of what the provider of a court has computed."""
    return TraceTree(decode_trace(court.made.blobs[court.made.trace], PROVIDER.peer))


Splice = Callable[[UnitCourt, UnitCourt, int], Opening]


def from_another_job(court: UnitCourt, other: UnitCourt, index: int) -> Opening:
    return tree(other).open(index)


def from_another_unit(court: UnitCourt, other: UnitCourt, index: int) -> Opening:
    return tree(court).open(index + 1)


def renumbered(court: UnitCourt, other: UnitCourt, index: int) -> Opening:
    """The next leaf, said to be this one, with either's path."""
    there = tree(court).open(index + 1)
    return Opening(msgspec.structs.replace(there.leaf, index=index), there.path)


def with_the_right_path(court: UnitCourt, other: UnitCourt, index: int) -> Opening:
    return Opening(tree(other).open(index).leaf, tree(court).open(index).path)


@pytest.mark.parametrize("splice", [from_another_job, from_another_unit, renumbered, with_the_right_path])
@pytest.mark.parametrize("place", [0, 1, -1])
def test_it_is_no_leaf_of_the_claim(splice: Splice, place: int) -> None:
    court = UnitCourt(conduct=skipping(4)).begin()
    other = UnitCourt(msgspec.structs.replace(unit_job(), name="other"))
    court.hear(PROVIDER, court.answer())
    answer = court.answer()
    openings = list(answer.openings)
    openings[place] = splice(court, other, openings[place].leaf.index)
    court.hear(PROVIDER, msgspec.structs.replace(answer, openings=tuple(openings)))
    assert court.found() == ("severe", "bad_path", False)


def test_a_path_of_a_longer_trace_does_not_fit_a_shorter() -> None:
    short, long = UnitCourt(unit_job(count=UNITS)), UnitCourt(unit_job(count=2 * UNITS))
    with pytest.raises(Refused) as caught:
        check_opening(short.provided.trace.root, UNITS, tree(long).open(3))
    assert caught.value.code == "bad_path"


def test_a_spliced_leaf_behind_an_audited_unit_is_found_when_the_claim_is_opened() -> None:
    honest = UnitCourt(unit_job(samples=UNITS))
    court = UnitCourt(unit_job(samples=UNITS), skipping(5)).begin().unfold()
    court.replay()
    spliced = tuple(tree(honest).open(index) for index in range(1, UNITS + 1))
    court.hear(PROVIDER, Reveal(ESCROW, 0, 1, court.made.output, court.made.size, SALT, spliced))
    assert court.found() == ("severe", "bad_path", False)


def test_the_honest_twin_is_accepted() -> None:
    assert UnitCourt(unit_job(audit_ppm=PPM), Conduct()).judged(EXACT) == ("accept", "units_equal", True)
