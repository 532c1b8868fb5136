"""Delays between regions of the world and where peers live, from published simulations of real networks.

Figures are copied as published, never smoothed or completed. `Topology.latency` names a table.
"""

from __future__ import annotations

from typing import Final

import msgspec

from protocol.errors import Refused

UNIFORM: Final = "uniform"
"""`Topology.latency` for a world of one region in which every delay is `Topology.delay`."""


class LatencyTable(msgspec.Struct, frozen=True):
    """Regions with their share of peers and the one-way delays between them."""

    name: str
    year: int
    source: str
    regions: tuple[str, ...]
    weights: tuple[int, ...]
    """Peers per region, in any unit: only their ratios count."""
    delays: tuple[tuple[int, ...], ...]
    """One-way milliseconds; row: region of the sender, column: region of the receiver. Need not be symmetric."""


ETHEREUM_2025: Final = LatencyTable(
    name="ethereum-2025",
    year=2025,
    source="github.com/libp2p/test-plans, gossipsub-interop/network_graph.py, pull request #648 (10 July 2025)",
    regions=(
        "australia",
        "europe",
        "east_asia",
        "west_asia",
        "na_east",
        "na_west",
        "south_africa",
        "south_america",
    ),
    weights=(290, 5599, 1059, 161, 2894, 1240, 47, 36),
    delays=(
        (2, 165, 110, 180, 150, 110, 220, 190),
        (165, 2, 125, 60, 70, 110, 95, 140),
        (110, 125, 4, 110, 140, 100, 175, 175),
        (180, 60, 110, 5, 110, 150, 110, 145),
        (150, 70, 140, 110, 2, 60, 130, 100),
        (110, 110, 100, 150, 60, 2, 160, 100),
        (220, 95, 175, 110, 130, 160, 7, 190),
        (190, 140, 175, 145, 100, 100, 195, 7),
    ),
)
"""Eight regions of libp2p's gossipsub interoperability tests, 2025: latencies of Shadow edges, which are one way, and
the number of nodes per place. Source: libp2p/test-plans, gossipsub-interop/network_graph.py. South Africa and South
America differ by direction there (190 and 195), and so here."""

BITCOIN_2019: Final = LatencyTable(
    name="bitcoin-2019",
    year=2019,
    source="github.com/dsg-titech/simblock, NetworkConfiguration.java, LATENCY_2019, REGION_DISTRIBUTION_BITCOIN_2019",
    regions=("north_america", "europe", "south_america", "asia_pacific", "japan", "australia"),
    weights=(3316, 4998, 90, 1177, 224, 195),
    delays=(
        (32, 124, 184, 198, 151, 189),
        (124, 11, 227, 237, 252, 294),
        (184, 227, 88, 325, 301, 322),
        (198, 237, 325, 85, 58, 198),
        (151, 252, 301, 58, 12, 126),
        (189, 294, 322, 198, 126, 16),
    ),
)
"""Six regions of SimBlock, 2019: its LATENCY_2019 and the shares of Bitcoin's nodes (in ten-thousandths). Source:
dsg-titech/simblock, simulator/src/main/java/simblock/settings/NetworkConfiguration.java. SimBlock applies them one way,
and so do we, so that results compare; they have the size of round trips elsewhere, hence are pessimistic."""

TABLES: Final = {table.name: table for table in (ETHEREUM_2025, BITCOIN_2019)}


def latency_table(name: str) -> LatencyTable:
    """The table of this name. Raises Refused for a name that no table has."""
    found = TABLES.get(name)
    if found is None:
        known = ", ".join((*TABLES, UNIFORM))
        raise Refused(
            f"topology.latency: there is no latency table {name!r}",
            code="unknown_table",
            fix=f"Use one of {known}.",
            numbers={"latency": name},
        )
    return found
