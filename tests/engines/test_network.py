"""The example jobs of Blender and OpenMM on a real network: submitted, rendered, audited by replays and paid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from shoal.client import FINAL_STATES, Client
from shoal.devnet import Devnet
from tests.end_to_end.conftest import Network

ROOT: Final = Path(__file__).parents[2]
PROVIDERS: Final = 3
SMALL: Final = {
    "blender": ("WIDTH: 128, HEIGHT: 128, SAMPLES: 64", "WIDTH: 64, HEIGHT: 64, SAMPLES: 16", 4),
    "openmm": ("LENGTH: 100, PLATFORM: CPU, THREADS: 2", "LENGTH: 20, PLATFORM: CPU, THREADS: 2", 6),
}


@pytest.fixture(scope="module")
def network(cycles: Path, dynamics: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Providers that offer the runtime `engines`."""
    assert cycles == dynamics
    folder = tmp_path_factory.mktemp("engines")
    devnet = Devnet(folder / "net", lambda text: None, {"SHOAL_ENGINES_PYTHON": str(cycles)})
    state = devnet.up(PROVIDERS)
    try:
        with Client(state.gateway.url, state.gateway.token) as client:
            yield Network(devnet, state, client, folder)
    finally:
        killed = devnet.down()
    assert not killed, f"{killed} did not end when they were asked to"


@pytest.mark.parametrize("example", sorted(SMALL))
def test_an_example_is_computed_audited_and_paid(network: Network, example: str) -> None:
    old, new, units = SMALL[example]
    text = (ROOT / "examples" / example / "job.yml").read_text()
    assert old in text and "runtime: engines" in text
    before = next(line for line in text.splitlines() if line.strip().startswith("units:"))
    text = text.replace(old, new).replace("audit: 0.25", "audit: 1")
    text = text.replace(before, f"  units: {units}").replace(f"name: {example}\n", "").replace("type: task\n", "")
    for source in (ROOT / "examples" / example).glob("*.py"):
        (network.folder / source.name).write_bytes(source.read_bytes())
    job = network.run(example, text)

    def look() -> str | None:
        state = network.client.status(job).state
        return state if state in FINAL_STATES else None

    network.wait(f"{job} is over", look)
    status = network.client.status(job)
    assert (status.state, status.accepted) == ("settled", 2), (status.state, status.reason, status.chunks)
    assert {(chunk.code, chunk.score) for chunk in status.chunks} == {("within_tolerance", 1.0)}
