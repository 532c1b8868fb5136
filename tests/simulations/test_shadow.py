"""Input of Shadow: the format's rules, and that everything which is named exists."""

from __future__ import annotations

import re
import shlex
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
import yaml
from msgspec import Meta, Struct

from protocol import genesis
from protocol.identity import Identity, peer_from_text
from protocol.units import PeerId
from shoal.cli import build_parser
from simulations import scenario_file, shadow
from simulations.scenario import Scenario
from tests.simulations.runs import SCENARIO

Time = Annotated[str, Meta(pattern=r"^\d+ (ns|us|ms|s|min|h)$")]


class Process(Struct, forbid_unknown_fields=True):
    """hosts.<name>.processes[*] of Shadow's configuration specification (3.2), as far as it is used."""

    path: str
    args: str
    start_time: Time
    expected_final_state: Literal["running"]


class Host(Struct, forbid_unknown_fields=True):
    network_node_id: Annotated[int, Meta(ge=0)]
    ip_addr: Annotated[str, Meta(pattern=r"^11(\.\d{1,3}){3}$")]
    processes: Annotated[list[Process], Meta(min_length=1)]


class General(Struct, forbid_unknown_fields=True):
    stop_time: Time
    seed: Annotated[int, Meta(ge=0, lt=2**32)]
    model_unblocked_syscall_latency: bool


class GraphFile(Struct, forbid_unknown_fields=True):
    path: Literal["graph.gml"]


class Graph(Struct, forbid_unknown_fields=True):
    type: Literal["gml"]
    file: GraphFile


class Network(Struct, forbid_unknown_fields=True):
    graph: Graph
    use_shortest_path: bool


class Settings(Struct, forbid_unknown_fields=True):
    """shadow.yaml."""

    general: General
    network: Network
    hosts: dict[Annotated[str, Meta(pattern=r"^[a-z0-9.-]+$")], Host]


@pytest.fixture(params=["ethereum-2025", "uniform"])
def scenario(request: pytest.FixtureRequest) -> Scenario:
    changes: dict[str, object] = {
        "population.providers.n": 20,
        "population.stewards.n": 2,
        "population.validators.n": 4,
        "topology.latency": request.param,
        "topology.loss": 0.01,
        "topology.bandwidth": {"super": "20%x1Gbit", "full": "80%x50Mbit"},
    }
    return scenario_file.changed(SCENARIO, changes)


def read(folder: Path) -> Settings:
    return msgspec.convert(yaml.safe_load((folder / "shadow.yaml").read_text()), Settings)


def parsed(text: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Nodes and edges of a GML graph."""
    found: dict[str, list[dict[str, str]]] = {"node": [], "edge": []}
    for kind, body in re.findall(r"^  (node|edge) \[\n(.*?)^  \]$", text, re.MULTILINE | re.DOTALL):
        found[kind].append(
            {key: value.strip('"') for key, value in re.findall(r"^    (\w+) (.+)$", body, re.MULTILINE)}
        )
    return found["node"], found["edge"]


def test_the_configuration_follows_the_format(scenario: Scenario, tmp_path: Path) -> None:
    shadow.export(scenario, 2**40 + 7, tmp_path)
    settings = read(tmp_path)
    assert len(settings.hosts) == 26
    addresses = [host.ip_addr for host in settings.hosts.values()]
    assert len(set(addresses)) == 26


def test_hosts_stand_on_nodes_of_a_complete_graph(scenario: Scenario, tmp_path: Path) -> None:
    shadow.export(scenario, 7, tmp_path)
    settings = read(tmp_path)
    nodes, edges = parsed((tmp_path / "graph.gml").read_text())
    ids = [int(node["id"]) for node in nodes]
    assert ids == list(range(len(ids)))
    assert {host.network_node_id for host in settings.hosts.values()} == set(ids)
    assert [(int(edge["source"]), int(edge["target"])) for edge in edges] == list(product(ids, ids))
    for edge in edges:
        assert re.fullmatch(r"[1-9]\d* us", edge["latency"])
        assert float(edge["packet_loss"]) == 0.01
    for node in nodes:
        assert node["host_bandwidth_up"] in ("1000000000 bit", "50000000 bit")


def test_every_host_starts_a_node_that_exists(scenario: Scenario, tmp_path: Path) -> None:
    written = shadow.export(scenario, 7, tmp_path)
    settings = read(tmp_path)
    first = genesis.from_json((tmp_path / "genesis.json").read_text())
    validators = {bytes(key) for key, _ in first.validators}
    assert len(validators) == 4
    peers: list[PeerId] = []
    for name, host in settings.hosts.items():
        words = shlex.split(host.processes[0].args)
        said = build_parser().parse_args(words)
        assert said.name == name
        key = tmp_path / "hosts" / name / "identity.seed"
        assert key in written
        assert key.stat().st_mode & 0o077 == 0
        peers.append(Identity(bytes.fromhex(key.read_text().strip())).peer)
        assert (peers[-1] in validators) == name.startswith("validator")
        assert (said.bootstrap is None) == (len(peers) == 1)
        if said.bootstrap:
            assert peer_from_text(said.bootstrap[0].rpartition("/")[2]) == peers[0]
    assert len(set(peers)) == 26
    assert {bytes(key) for _, key, _ in first.balances} == set(peers)


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        shadow.export(SCENARIO, seed, tmp_path / name)
    first, same, other = ((tmp_path / name / "shadow.yaml").read_bytes() for name in "abc")
    assert first == same != other


def test_addresses_skip_broadcasts() -> None:
    assert [shadow.address(index) for index in (0, 253, 254)] == ["11.0.0.1", "11.0.0.254", "11.0.1.1"]
