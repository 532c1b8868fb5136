"""A live node under attack, row by row: an honest peer asks all the while, and has to be served.

The figures are printed at the end (`pytest -s`); the floods are ten times as long with SHOAL_LONG=1.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.ground import IS_LONG, Ground, opened
from tests.attacks.rows import ATTACKS, ROWS, Row

STALL_S = 5.0 if IS_LONG else 30.0
"""An honest peer that waits so long was not served: the aim is one second, on a machine that does nothing else; another
may stand still for seconds."""

RSS_MIB_MAX = 1_024

SHORT = (
    "connects", "half of Noise", "data port: replay", "rapid reset", "window ignored", "frame of 4 GiB",
    "a second Hello", "Ack of the future", "slow questions", "IHAVE spam", "forged authors", "false records",
)  # fmt: skip
"""One of each kind, for every run of the tests."""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with opened(tmp_path_factory.mktemp("attacks")) as running:
        yield running
        print("\n| attack | honest median ms | worst ms | RSS MiB | longest turn ms | given back after s | seen |")
        for name, (seen, report) in running.table.items():
            told = ", ".join(f"{key} {value:g}" for key, value in report.items())
            print(
                f"| {name} | {seen.median_ms:.0f} | {seen.worst_ms:.0f} | {seen.rss_mib:.0f} | {seen.turn_ms:.0f}"
                f" | {seen.settle_s:.1f} | {told} |"
            )


def told(row: Row) -> object:
    """The row as a case: those of `SHORT` always run."""
    marks = () if row.name in SHORT else (pytest.mark.attack,)
    return pytest.param(row, id=row.name.replace(" ", "-"), marks=marks)


@pytest.mark.parametrize("row", [told(row) for row in ROWS])
def test_an_honest_peer_is_served(row: Row, ground: Ground) -> None:
    seen, report = ground.attack(row.name, row.seconds * (60 if IS_LONG else 1))
    assert seen.waits
    assert seen.worst_ms < STALL_S * 1000, (seen, report)
    assert not seen.errors, seen
    assert seen.rss_mib < RSS_MIB_MAX, seen
    assert seen.settle_s >= 0, seen.left
    assert row.holds(report), report


def test_every_attack_is_in_the_table() -> None:
    assert {row.name for row in ROWS} == set(ATTACKS)
    assert set(SHORT) <= set(ATTACKS)


def test_the_node_is_as_idle_as_before(ground: Ground) -> None:
    assert ground.victim.child.exit_code is None
    assert ground.victim.rss_mib < 512
    assert ground.victim.status()["peers"] is not None
