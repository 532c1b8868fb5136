"""The attacker in a process of its own: `attacker.py NETWORK VICTIM DATA_PORT`, then one order per line on its input.

An order is `{"attack": NAME, "seconds": S}`; the answer is what the attack saw, in one line.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[2]))

from node.addresses import split_address
from tests.attacks.rows import ATTACKS
from tests.attacks.strangers import Target


async def main(network: str, victim: str, data_port: int) -> None:
    """Obey until the input ends."""
    peer, address = split_address(victim)
    _, _, host, _, port = address.split("/")
    target = Target(network, peer, host, int(port), data_port)
    print("ready", flush=True)
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        order = json.loads(line)
        report = await ATTACKS[order["attack"]](replace(target, seconds=order["seconds"]))
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
