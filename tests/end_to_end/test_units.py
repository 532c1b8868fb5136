"""A job in units on real processes: audited by replays, paid; and a provider that changes one state of its trace."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import genesis
from shoal import receipts
from shoal.client import Client
from shoal.devnet import Devnet
from tests.end_to_end.conftest import Network
from tests.node.proving.programs import WALK

JOB = """runtime: torch
files: [walk.py]
commands: [python $SHOAL_IN/walk.py]
numeric: D0
proof: {class: deterministic, units: 6, samples: 6}
audit: 1
estimate: 5s
"""


@pytest.fixture(scope="module")
def cheated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Four providers, of which the cheapest lies about one unit. NumPy is all that their runtime has to have."""
    folder = tmp_path_factory.mktemp("units")
    devnet = Devnet(folder / "net", lambda text: None, {"SHOAL_TORCH_PYTHON": sys.executable})
    state = devnet.up(4, cheats=True)
    try:
        with Client(state.gateway.url, state.gateway.token) as client:
            (folder / "walk.py").write_text(WALK)
            yield Network(devnet, state, client, folder)
    finally:
        devnet.down()


def test_one_wrong_unit_is_fraud_and_the_chunk_is_done_by_others(cheated: Network, tmp_path: Path) -> None:
    job = cheated.run("walk", JOB + "chunks: 2\n")
    from shoal.client import FINAL_STATES
    status = cheated.wait("over", lambda: st if (st := cheated.client.status(job)).state in FINAL_STATES else None)
    for c in status.chunks: print(c)
    print(status.money)
    print({n.name:n.peer for n in cheated.state.nodes})
    account = receipts.verify(cheated.client.receipt(job), genesis.from_json(Path(cheated.state.genesis).read_bytes()))
    print(account)
    raise AssertionError
