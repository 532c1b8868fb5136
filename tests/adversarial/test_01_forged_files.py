"""Attack 01: honest units, and beside the last state output files that are not made of it.

Where states are compared within a tolerance no replay gives the very state that the files were made of, so an auditor
makes them of the revealed one. Honest twin: the same noisy machine with the files that its program wrote.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from simulations.units import EXACT
from tests.adversarial.unit_stand import Stand
from tests.node.proving.programs import WALK
from tests.verifier.court import STRANGER
from tests.verifier.unit_court import AUDITORS, NOISE, UNITS, UnitCourt, forging, noisy, skipping, unit_job

FORGED = "    def finish(self, state, out):\n        (out / 'more.txt').write_text('not of the state')\n"
FOUR = (*AUDITORS, STRANGER)


def judged(court: UnitCourt) -> tuple[str, str, bool]:
    """With honest auditors, whatever they are asked."""
    court.begin().unfold()
    court.replay()
    court.show()
    court.uncover(court.by_peer[court.case.state.auditor])  # type: ignore[union-attr]
    while court.waits_for == "Checking":
        court.make_again()
    return court.found()


@pytest.mark.parametrize("samples", [2, 4, UNITS])
def test_forged_files_are_found_whatever_units_are_drawn(samples: int) -> None:
    court = forging(UnitCourt(unit_job("D3", samples=samples), noisy(NOISE), FOUR))
    assert judged(court) == ("rejected", "output_differs", True)


def test_in_bitwise_classes_the_replay_of_the_last_unit_finds_them() -> None:
    court = forging(UnitCourt(unit_job("D1", samples=4), auditors=FOUR))
    assert court.judged(EXACT, EXACT, beacon=1) == ("fraud", "output_differs", True)


def test_files_that_are_made_of_a_forged_state_do_not_help() -> None:
    """The state itself is then what no honest machine gets."""
    court = UnitCourt(unit_job("D3", samples=4), skipping(UNITS - 1), FOUR)
    assert court.judged(EXACT, EXACT) == ("rejected", "out_of_tolerance", True)


async def test_in_a_sandbox_the_files_of_the_jobs_own_program_come_out_and_no_others(tmp_path: Path) -> None:
    """The cheat computes every unit, and writes what it likes at the very end."""
    stand = Stand(tmp_path)
    spec = stand.spec(WALK)
    honest, trace = await stand.run(spec)
    assert await stand.finish(spec, trace) == honest.output
    forging_program = WALK.replace("    def finish(self, state, out):\n", FORGED)
    assert forging_program != WALK
    cheat, same = await stand.cheat(spec, forging_program)
    assert same == trace, "no replay of units can tell the two apart"
    assert await stand.finish(spec, same) == honest.output != cheat.output


@pytest.mark.parametrize("samples", [2, 4, UNITS])
def test_the_honest_twin_is_accepted(samples: int) -> None:
    court = UnitCourt(unit_job("D3", samples=samples), noisy(NOISE), FOUR)
    assert judged(court) == ("accept", "within_tolerance", True)
