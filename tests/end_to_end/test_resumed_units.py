"""Unit jobs on real processes whose provider is killed: another goes on from its last units, and both are proven."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.end_to_end.conftest import Network, running_network
from tests.node.proving.modules import CHAIN, binary
from tests.node.proving.programs import WALK

UNITS: Final = 24
JOB: Final = f"""runtime: torch
files: [slow.py]
commands: [python $SHOAL_IN/slow.py]
numeric: D0
proof: {{class: deterministic, units: {UNITS}, samples: {UNITS}}}
audit: 1
checkpoint: {{every: 1s}}
estimate: 10s
"""
MODULE: Final = """wasm: slow.wasm
fuel: 100000000000
proof: {class: deterministic, units: 40, samples: 8}
audit: 1
checkpoint: {every: 1s}
estimate: 10s
"""
CHAIN_SLOW: Final = CHAIN.replace("i32.const 5000", "i32.const 100000000")
"""Some tenths of a second per unit, for an audit too."""
SLOW: Final = WALK.replace("import hashlib, os", "import hashlib, os, time").replace(
    "    def step(self, state, index):\n",
    """    def step(self, state, index):
        print("unit", index, flush=True)
        is_paid = os.environ.get("SHOAL_PROOF") == "run"
        time.sleep(0.5 if is_paid else 0)
        while is_paid and index == 20 and not os.path.exists(os.environ["SHOAL_IN"] + "/enough"):
            time.sleep(0.1)
""",
)
"""Half a second per unit for whoever is paid for them, who does not end before it is let; an audit is quick."""


@pytest.fixture(scope="module")
def numpy_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Three providers whose runtime has NumPy, which is all that a unit program needs."""
    with running_network(tmp_path_factory.mktemp("resumed"), torch=sys.executable) as network:
        yield network


@pytest.mark.parametrize(("text", "units", "is_said"), [(JOB, UNITS, True), (MODULE, 40, False)], ids=["py", "wasm"])
def test_a_killed_provider_costs_seconds_and_both_are_proven(
    numpy_network: Network, text: str, units: int, is_said: bool
) -> None:
    """Of the program every unit is replayed: those before the seam, those behind it, and the two at it. A module says
    nothing."""
    network = numpy_network
    (network.folder / "slow.py").write_text(SLOW)
    (network.folder / "slow.wasm").write_bytes(binary(CHAIN_SLOW))
    began = time.monotonic()
    job = network.run("resumed", text)

    def saved() -> str | None:
        chunk = network.client.status(job).chunks[0]
        return network.name(chunk.provider) if chunk.step >= 4 and chunk.state == "running" else None

    name = network.wait("four units are safe", saved)
    network.devnet.kill(name)
    killed = time.monotonic()
    try:

        def on() -> float | None:
            recoveries = network.client.status(job).chunks[0].recoveries
            return recoveries[0].seconds if recoveries else None

        told = network.wait("another goes on", on)
        seconds = time.monotonic() - killed
        assert 0 < told < time.monotonic() - began
        status = network.settled(job, waits="*")
        (chunk,) = status.chunks
        print(f"went on {seconds:.1f} s after the kill: {chunk.recoveries[0]}, {chunk.snapshot_bytes} bytes")
        assert chunk.attempts[0].end == "dead" and network.name(chunk.provider) != name
        # A node that gets no core for five seconds loses its lease as well: then there is a third.
        assert chunk.epoch >= 2 and (chunk.code, chunk.is_audited) == ("units_equal", True)
        lines = [line.line for line in network.client.logs(job, follow=False)]
        last = max(at for at, line in enumerate(lines) if line.startswith("shoal: goes on from snapshot"))
        begun = int(lines[last].split()[-1])
        assert 4 <= begun < units and begun == chunk.recoveries[-1].step
        again = lines[last + 1 :]
        assert again == [f"unit {index}" for index in range(begun, units) if is_said], lines
        (decision,) = network.client.evidence(job).decisions
        assert decision.code == "units_equal"
        account = network.account(network.client.receipt(job))
        assert account.paid > 0 == account.slashed
    finally:
        network.devnet.restart(name)
        network.joined(name)
