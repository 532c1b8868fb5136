"""A crowd of sybils around one node that lost its honest peer: does it find back by itself?"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from shoal.processes import end_all
from tests.attacks.ground import HERE, NETWORK, PATIENCE_S, Talker, free_port, start_victim
from tests.attacks.on_neighbours import SYBILS

BACK_S = 4 * PATIENCE_S
"""A node dials its bootstrap again every half minute or so, and not at once where the first dial fails."""


def bystander(folder: Path, name: str, listen: str) -> Talker:
    """An honest peer that dials nobody."""
    words = (sys.executable, str(HERE / "honest.py"), str(folder / "honest"), NETWORK, "-", "0", listen)
    found = Talker(words, folder / f"{name}.log")
    assert found.wait_for(1, PATIENCE_S), (folder / f"{name}.log").read_text()[-2_000:]
    return found


def test_a_surrounded_node_dials_its_bootstrap_again(tmp_path: Path) -> None:
    listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
    honest = bystander(tmp_path, "before", listen)
    victim = start_victim(tmp_path, "--bootstrap", honest.lines[0])
    words = (sys.executable, str(HERE / "on_neighbours.py"), NETWORK, victim.address)
    sybils = Talker(words, tmp_path / "sybils.log")
    try:
        assert sybils.wait_for(SYBILS, PATIENCE_S), sybils.lines[-1:]
        honest.end()
        honest = bystander(tmp_path, "after", listen)
        started = time.monotonic()
        count = 1
        while not any(victim.peer in json.loads(line) for line in honest.lines[1:]):
            count += 1
            assert honest.wait_for(count, BACK_S), f"nothing within {BACK_S:g} s"
        print(f"\nsurrounded by {SYBILS} sybils, back with an honest peer after {time.monotonic() - started:.1f} s")
    finally:
        sybils.end()
        honest.end()
        end_all([victim.child.pid])
        victim.child.reap()
