"""The latency tables are whole, and hold what their sources print."""

from __future__ import annotations

import pytest

from protocol.errors import Refused
from simulations.tables.latency import BITCOIN_2019, ETHEREUM_2025, TABLES, LatencyTable, latency_table

ALL = pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))


@ALL
def test_a_table_has_a_row_and_a_weight_per_region(table: LatencyTable) -> None:
    size = len(table.regions)
    assert len(set(table.regions)) == size == len(table.weights) == len(table.delays)
    assert all(len(row) == size for row in table.delays)
    assert all(delay > 0 for row in table.delays for delay in row)
    assert all(weight > 0 for weight in table.weights)


@ALL
def test_a_table_says_where_it_comes_from(table: LatencyTable) -> None:
    assert table.name.endswith(str(table.year))
    assert table.source.startswith("github.com/")
    assert latency_table(table.name) is table


@ALL
def test_home_is_nearest(table: LatencyTable) -> None:
    """True of every published table; a slip in a row or a column would show here."""
    for index, row in enumerate(table.delays):
        others = [delay for column, delay in enumerate(row) if column != index]
        assert row[index] <= min(others) or table is BITCOIN_2019  # Asia-Pacific is nearer to Japan than to itself.


def _delay(table: LatencyTable, source: str, target: str) -> int:
    return table.delays[table.regions.index(source)][table.regions.index(target)]


def test_figures_of_the_gossipsub_tests() -> None:
    table = ETHEREUM_2025
    assert _delay(table, "europe", "na_east") == 70
    assert _delay(table, "south_america", "east_asia") == 175
    assert _delay(table, "west_asia", "na_west") == 150
    assert (_delay(table, "south_africa", "south_america"), _delay(table, "south_america", "south_africa")) == (
        190,
        195,
    )
    assert sum(table.weights) == 11_326
    asymmetric = [
        (row, column)
        for row in range(8)
        for column in range(row)
        if table.delays[row][column] != table.delays[column][row]
    ]
    assert [(table.regions[row], table.regions[column]) for row, column in asymmetric] == [
        ("south_america", "south_africa")
    ]


def test_figures_of_simblock() -> None:
    table = BITCOIN_2019
    assert _delay(table, "europe", "north_america") == 124
    assert _delay(table, "japan", "asia_pacific") == 58
    assert sum(table.weights) == 10_000
    assert table.delays == tuple(zip(*table.delays, strict=True))


def test_an_unknown_table_is_refused_by_name() -> None:
    with pytest.raises(Refused) as refused:
        latency_table("mars-2040")
    assert "mars-2040" in refused.value.detail
    assert "ethereum-2025" in refused.value.fix and "uniform" in refused.value.fix
