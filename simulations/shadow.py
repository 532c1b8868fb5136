"""A scenario as input of Shadow, which runs the real node program over a simulated internet.

Format: Shadow 3, docs/shadow_config_spec.md and docs/network_graph_spec.md (2025). The graph is that of libp2p's
gossipsub-interop (2025): a node per region and last mile, an edge for every pair. Carried over: population, places,
latency, loss, bandwidth, the keys of peers. Not carried over: faults, adversaries, churn, NAT, jobs; Shadow knows none
of the first four, and jobs are submitted by hand. GPUs are not simulated by Shadow either.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import yaml

from protocol.credits import credits_text
from protocol.genesis import Genesis
from protocol.identity import Identity, peer_text
from protocol.units import Credits
from simulations import chance, landing
from simulations.places import Place, delays, place, regions
from simulations.scenario import Group, Role, Scenario

STOCK: Final = 10**12
"""Bits per second that stand for `unlimited`: Shadow wants a number."""

FIRST_ADDRESS: Final = (11 << 24) + 1
"""11.0.0.1: Shadow's own choice of a range that is not reserved for private use."""

PORT: Final = 4001
START_GAP_NS: Final = 100_000_000
"""Between the starts of two hosts, ns: the first one is up before others dial it."""

NETWORK: Final = "shadow"
SHADOW_EPOCH_S: Final = 946_684_800
"""What the clock shows when a Shadow simulation starts: 1 January 2000 (docs/shadow_config_overview.md)."""

Host = tuple[str, Role, Group, Place, Identity]


def export(scenario: Scenario, seed: int, folder: Path, program: str = "shoal") -> list[Path]:
    """Write shadow.yaml, graph.gml, genesis.json, README.md and hosts/<name>/identity.seed. Returns the paths.

    `program`: path of the node's program where Shadow runs. Raises `Refused` for a full disk or a bad topology."""
    hosts = _hosts(scenario, seed)
    classes = sorted({(one[3].region, one[3].up, one[3].down) for one in hosts})
    settings = configuration(scenario, seed, hosts, classes, program)
    files: dict[str, str] = {
        "graph.gml": graph(scenario, classes),
        "genesis.json": _genesis(hosts).to_json(),
        "shadow.yaml": yaml.safe_dump(settings, sort_keys=False, width=110),
        "README.md": _readme(scenario, seed, len(hosts)),
    }
    written = []
    for name, _, _, _, identity in hosts:
        path = folder / "hosts" / name / "identity.seed"
        landing.write(path, identity.seed.hex().encode() + b"\n")
        # The node refuses a key that others may read.
        path.chmod(0o600)
        written.append(path)
    for name, text in files.items():
        landing.write(folder / name, text.encode())
        written.append(folder / name)
    return written


def graph(scenario: Scenario, classes: Sequence[tuple[int, int, int]]) -> str:
    """The network in GML: one node per (region, up, down), one directed edge per pair, itself included."""
    names, between = regions(scenario.topology), delays(scenario.topology)
    lines = ["graph [", "  directed 1"]
    for number, (region, up, down) in enumerate(classes):
        lines += [
            "  node [",
            f"    id {number}",
            f'    label "{names[region]}-{number}"',
            f'    host_bandwidth_up "{up or STOCK} bit"',
            f'    host_bandwidth_down "{down or STOCK} bit"',
            "  ]",
        ]
    for source, (here, _, _) in enumerate(classes):
        for target, (there, _, _) in enumerate(classes):
            # Shadow refuses an edge without delay.
            delay = max(1, between[here][there] // 1_000)
            lines += [
                "  edge [",
                f"    source {source}",
                f"    target {target}",
                f'    latency "{delay} us"',
                f"    packet_loss {scenario.topology.loss}",
                "  ]",
            ]
    return "\n".join([*lines, "]", ""])


def configuration(
    scenario: Scenario, seed: int, hosts: Sequence[Host], classes: Sequence[tuple[int, int, int]], program: str
) -> dict[str, object]:
    """shadow.yaml as plain values."""
    plan = scenario.simulation
    first = f"/ip4/{address(0)}/tcp/{PORT}/p2p/{peer_text(hosts[0][4].peer)}"
    entries = {}
    for index, (name, role, group, where, _) in enumerate(hosts):
        words = [
            "node", "run", "--data", f"../../../hosts/{name}", "--network", NETWORK, "--name", name, "--roles", role,
            "--genesis", "../../../genesis.json", "--listen", f"/ip4/{address(index)}/tcp/{PORT}",
        ]  # fmt: skip
        words += ["--slots", str(group.slots), "--price", credits_text(Credits(group.price))] * (role == "provider")
        words += ["--bootstrap", first] * (index > 0)
        entries[name] = {
            "network_node_id": classes.index((where.region, where.up, where.down)),
            "ip_addr": address(index),
            "processes": [
                {
                    "path": program,
                    "args": shlex.join(words),
                    "start_time": f"{(index * START_GAP_NS) // 1_000_000} ms",
                    "expected_final_state": "running",
                }
            ],
        }
    return {
        "general": {
            "stop_time": f"{(plan.duration + plan.settle) // 1_000_000} ms",
            # Shadow's seeds have 32 bits.
            "seed": seed % (1 << 32),
            "model_unblocked_syscall_latency": True,
        },
        "network": {"graph": {"type": "gml", "file": {"path": "graph.gml"}}, "use_shortest_path": False},
        "hosts": entries,
    }


def address(index: int) -> str:
    """The IPv4 address of a host; those that end in 0 or 255 are left out."""
    number = FIRST_ADDRESS + index // 254 * 256 + index % 254
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def _hosts(scenario: Scenario, seed: int) -> list[Host]:
    """Stewards first: the first of them is whom the others dial."""
    groups = scenario.population.groups
    order: tuple[Role, ...] = ("steward", "validator", "provider")
    named: list[tuple[str, Role, Group]] = []
    for role in order:
        for number in range(groups[role].n):
            named.append((f"{role}-{number}", role, groups[role]))  # noqa: PERF401  A comprehension would lose the role's type.
    public = [role == "validator" for _, role, _ in named]
    places = place(scenario.topology, len(named), public, chance.stream(seed, "places"))
    hosts: list[Host] = []
    for index, (name, role, group) in enumerate(named):
        hosts.append((name, role, group, places[index], Identity(chance.digest(seed, "shadow", name))))
    return hosts


def _genesis(hosts: Sequence[Host]) -> Genesis:
    validators = tuple((identity.peer, 1) for _, role, _, _, identity in hosts if role == "validator")
    balances: list[tuple[Literal["U", "S"], bytes, int]] = [
        ("U" if role == "steward" else "S", identity.peer, max(1, group.stake)) for _, role, group, _, identity in hosts
    ]
    return Genesis(NETWORK, SHADOW_EPOCH_S * 1_000_000, validators, tuple(balances))


def _readme(scenario: Scenario, seed: int, hosts: int) -> str:
    return f"""# {scenario.name} for Shadow

{hosts} real nodes on the places and delays that the simulator draws for seed {seed}. Run it with Shadow 3:

    shadow shadow.yaml

Shadow writes shadow.data/; every node's own files are in hosts/<name>/. Not carried over: faults, adversaries, churn,
NAT and jobs. Large runs need limits raised: https://shadow.github.io/docs/guide/system_configuration.html
"""
