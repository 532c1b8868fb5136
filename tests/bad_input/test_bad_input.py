"""Whatever is put in wrongly, at any door: a stable code, the cause in words, something to do, and nothing broken."""

from __future__ import annotations

import pytest

from shoal import exits
from tests.bad_input import doors, files, network, scenarios, shell
from tests.bad_input.ground import Ground, Row, Told

ROWS: tuple[Row, ...] = (*files.ROWS, *network.ROWS, *doors.ROWS, *shell.ROWS, *scenarios.ROWS)


def check(row: Row, told: Told) -> None:
    """What holds for every answer to bad input."""
    assert told.code == row.code, told
    assert row.says in told.cause, told
    assert told.fix and told.fix != told.cause, told
    assert "Traceback" not in told.cause + told.noise and "object at 0x" not in told.cause, told
    if told.status is not None:
        assert told.status // 100 == 4, told
    if told.exit_code is not None:
        assert told.exit_code in (exits.BAD_INPUT, exits.REFUSED, exits.UNAVAILABLE), told
        assert not told.noise, told


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_bad_input_is_answered_with_a_cause_and_a_fix(row: Row, ground: Ground) -> None:
    check(row, row.act(ground))


def test_there_are_at_least_a_hundred_different_ones() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS) >= 200


def test_after_all_that_the_node_still_works(ground: Ground) -> None:
    from shoal.client import Client

    with Client(ground.url, ground.tokens["anna"]) as client:
        job = ground.job
        assert client.status(job).state == "quoted"
        assert client.status(client.confirm(job).job).state != "failed"
