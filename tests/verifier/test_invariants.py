"""Invariants: zero for what is perfect, larger for what is not, infinite for what is nothing."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from node.guest.work import scientific as guest
from verifier.invariants import CODES, check, drift, gap, residual, violation

Floats = npt.NDArray[np.float64]
DICE = np.random.default_rng(7)
MATRIX = DICE.normal(size=(40, 40)) + 8 * np.eye(40)
RIGHT = DICE.normal(size=40)
SOLUTION: Floats = np.linalg.solve(MATRIX, RIGHT).astype(np.float64)

COSTS = np.array([2.0, 3.0])
NEEDS = np.array([[1.0, 1.0], [1.0, 3.0]])
WANTED = np.array([4.0, 6.0])
BEST = np.array([3.0, 1.0])
PRICES = np.array([1.5, 0.5])


def test_a_solution_solves_and_a_guess_does_not() -> None:
    assert residual(MATRIX, SOLUTION, RIGHT) < 1e-15
    assert residual(MATRIX, SOLUTION + 1e-6, RIGHT) > 1e-9
    assert residual(MATRIX, np.zeros(40), RIGHT) == pytest.approx(1.0)
    assert residual(np.zeros((2, 2)), np.zeros(2), np.zeros(2)) == 0.0


def test_the_guest_and_the_verifier_measure_the_same() -> None:
    for solution in (SOLUTION, SOLUTION + 1e-3, np.zeros(40)):
        assert guest.residual(MATRIX, solution, RIGHT) == residual(MATRIX, solution, RIGHT)
    series = np.array([-5.0, -5.1, -4.95])
    assert guest.drift(series) == drift(series) == pytest.approx(0.02)


def test_drift_is_relative_to_the_start_or_to_a_scale() -> None:
    assert drift(np.array([10.0, 10.1, 9.8])) == pytest.approx(0.02)
    assert drift(np.array([0.0, 1e-3]), scale=10.0) == pytest.approx(1e-4)
    assert drift(np.array([0.0, 1e-3])) == math.inf
    assert drift(np.array([0.0, 0.0])) == 0.0


def test_a_constraint_is_as_broken_as_its_worst_place() -> None:
    assert violation(np.array([1e-9, -3e-4, 0.0])) == pytest.approx(3e-4)
    assert violation(np.array([]), 2.0) == 0.0


def test_a_dual_solution_proves_the_optimum() -> None:
    assert gap(NEEDS, WANTED, COSTS, BEST, PRICES) == pytest.approx(0.0, abs=1e-15)
    worse = [
        (np.array([4.0, 0.5]), PRICES),
        (np.array([2.0, 1.0]), PRICES),
        (BEST, np.array([3.0, 1.0])),
        (BEST, np.array([0.0, 0.0])),
        (np.array([6.0, -0.5]), PRICES),
    ]
    assert all(gap(NEEDS, WANTED, COSTS, primal, dual) > 1e-2 for primal, dual in worse)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_infinitely_wrong(value: float) -> None:
    bad = SOLUTION.copy()
    bad[3] = value
    assert residual(MATRIX, bad, RIGHT) == math.inf
    assert drift(np.array([1.0, value])) == math.inf
    assert violation(np.array([value])) == math.inf
    assert gap(NEEDS, WANTED, COSTS, np.array([value, 1.0]), PRICES) == math.inf


def test_numbers_too_large_to_square_are_wrong_as_well() -> None:
    assert residual(MATRIX, np.full(40, 1e308), RIGHT) == math.inf
    assert gap(NEEDS, WANTED, COSTS, np.full(2, 1e308), PRICES) == math.inf


def test_other_shapes_are_wrong() -> None:
    assert residual(MATRIX, SOLUTION[:5], RIGHT) == math.inf
    assert drift(np.zeros((2, 2))) == drift(np.zeros(0)) == math.inf
    assert gap(NEEDS, WANTED, COSTS, BEST[:1], PRICES) == math.inf


@pytest.mark.parametrize("kind", sorted(CODES))
def test_every_invariant_has_its_own_word(kind: str) -> None:
    assert check(kind, 0.5, 0.5).code == "within_tolerance"
    assert check(kind, 0.6, 0.5).code == CODES[kind]
    assert check(kind, math.nan, 0.5).code == CODES[kind]
