"""A Shoal network in the laboratory: `shoal node run` in houses, the steward with its gateway and the validator public.

with Laboratory() as lab:
    village = Village(lab, folder, say)
    for kind in routers.KINDS: village.settle(lab.house(kind, kind).host)
    village.up(); job = village.run(...); village.down()
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from benchmarks.netlab import faults
from benchmarks.netlab.laboratory import Host, Laboratory
from gateway.schemas import ChunkStatus, JobStatus
from node.config import ADVERSARY_SWITCH
from node.control_client import ControlClient
from protocol.errors import Refused, Unavailable
from protocol.units import Micros
from shoal import devnet_layout as layout
from shoal.client import FINAL_STATES, Client
from shoal.devnet import FIRST_DEPOSIT, Devnet
from shoal.devnet_state import DevnetState, GatewayEntry, NodeEntry
from shoal.processes import Child, shoal_command, shoal_environment, until

PORT: Final = 4301
"""All nodes listen on the same port, as all nodes of an unconfigured network do."""

GATEWAY_PORT: Final = 8080
PUBLIC: Final = ("steward", "validator")

Way = Literal["direct", "punched", "relayed", "connected", "none"]
"""How a peer is reached, from best to worst; `connected`: somehow, for the node does not tell its paths."""
WAYS: Final[tuple[Way, ...]] = ("direct", "punched", "relayed", "connected", "none")


class PathRow(Struct, frozen=True):
    """One path to a peer, as `network.status` tells it."""

    kind: Way
    address: str = ""
    relay: str | None = None


class PeerRow(Struct, frozen=True):
    """A peer and the paths to it."""

    peer: str
    paths: tuple[PathRow, ...] = ()


class NatRow(Struct, frozen=True):
    """What a node believes of its router."""

    kind: str = "unknown"


class RelayRow(Struct, frozen=True):
    """A relay where a node has a place."""

    peer: str


class NetworkRow(Struct, frozen=True):
    """What the laboratory reads of `network.status`."""

    peers: tuple[PeerRow, ...] = ()
    nat: NatRow = NatRow()
    relays: tuple[RelayRow, ...] = ()
    is_public: bool = False
    counts: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Resident:
    """A node's host, how wrong its clock is, and whether it takes work; one that does not is a neighbour, and a relay
    where it is public."""

    host: Host
    skew_s: float = 0.0
    is_provider: bool = True


class Village(Devnet):
    """A devnet whose processes live on hosts of a laboratory; everything else is the devnet's own doing.

    Houses named `steward` and `validator` are built public, unless the laboratory has them already. Bootstraps are the
    public ones of the two, or every public node where both are at home."""

    def __init__(self, lab: Laboratory, folder: Path, say: Callable[[str], None]) -> None:
        super().__init__(folder, say, {})
        self._residents = {name: Resident(self._public(lab, name), is_provider=False) for name in PUBLIC}
        self.state: DevnetState | None = None
        self.peer_names: dict[str, str] = {}
        """Node name by peer id, from `up` on."""

    def settle(self, host: Host, skew_s: float = 0.0, *, is_provider: bool = True) -> None:
        """A provider, or a neighbour that takes no work, will live on this host, under its name; before `up`."""
        self._residents[host.name] = Resident(host, skew_s, is_provider)

    @property
    def providers(self) -> set[str]:
        """Who takes work."""
        return {name for name, resident in self._residents.items() if resident.is_provider}

    def host(self, name: str) -> Host:
        """Where a node lives."""
        return self._residents[name].host

    @property
    def names(self) -> tuple[str, ...]:
        """All nodes."""
        return tuple(self._residents)

    def up(
        self,
        providers: int = 0,
        *,
        cheats: bool = False,
        deposit: int = FIRST_DEPOSIT,
        window: Micros = layout.WINDOW,
        canaries: int = 0,
    ) -> DevnetState:
        """Start all; returns when jobs can be submitted. The number of providers is that of the residents."""
        with self.host("steward").entered():
            self.state = super().up(
                len(self.providers), cheats=cheats, deposit=deposit, window=window, canaries=canaries
            )
        return self.state

    def restart(self, name: str) -> None:
        """Start what was killed again; returns when it answers. Others that were killed stay dead."""
        dead = {one: child for one, child in self._children.items() if one != name and child.exit_code is not None}
        for one in dead:
            del self._children[one]
        with self.host("steward").entered():
            super().restart(name)
        self._children.update(dead)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """The renter, who sits beside the gateway. The thread is on that host meanwhile."""
        assert self.state is not None, "the village is not up"
        with self.host("steward").entered(), Client(self.state.gateway.url, self.state.gateway.token) as client:
            yield client

    def submit(self, job: Path) -> str:
        """Submit a job file and agree to the quote; the job's id."""
        with self.client() as client:
            submitted = client.submit(job)
            client.confirm(submitted.job)
        return submitted.job

    def running(self, job: str, on: str, seconds: float) -> ChunkStatus | None:
        """Wait until the named provider computes a chunk of the job; None when the job ended without."""
        assert self.state is not None
        peer = self.state.node(on).peer

        def look() -> tuple[ChunkStatus | None] | None:
            with self.client() as client:
                status = client.status(job)
            found = [chunk for chunk in status.chunks if chunk.state == "running" and chunk.provider == peer]
            return (found[0] if found else None,) if found or status.state in FINAL_STATES else None

        return until(f"{on} computes a chunk", look, self._alive(), seconds)[0]

    def settled(self, job: str, seconds: float) -> JobStatus:
        """Wait until a job is over. It must have succeeded with every step accepted; Unavailable else."""

        def look() -> JobStatus | None:
            with self.client() as client:
                status = client.status(job)
            return status if status.state in FINAL_STATES else None

        status = until(f"{job} is over", look, self._alive(), seconds)
        if status.state != "settled" or status.accepted != status.steps:
            raise Unavailable(
                f"{job} ended {status.state} with {status.accepted} of {status.steps}: {status.reason}",
                code="job_failed",
            )
        return status

    def _alive(self) -> list[Child]:
        """What runs now and should go on running."""
        return [child for child in self._children.values() if child.exit_code is None]

    def ways(self, name: str) -> dict[str, Way] | None:
        """The best way from a node to every node that it is connected with; None while it does not answer."""
        try:
            with self.control(name) as control:
                return self._ways(control)
        except Unavailable:
            return None

    def _ways(self, control: ControlClient) -> dict[str, Way]:
        try:
            told = control.call("network.status")
        except Refused as error:
            if error.code != "unknown_method":
                raise
            told = {"peers": [_somehow(peer) for peer in _texts(control.call("node.status")["connected"])]}
        best: dict[str, Way] = {}
        for peer in msgspec.convert(told, NetworkRow).peers:
            kinds = {path.kind for path in peer.paths}
            if kinds and peer.peer in self.peer_names:
                best[self.peer_names[peer.peer]] = next(way for way in WAYS if way in kinds)
        return best

    def network(self, name: str) -> NetworkRow:
        """What a node says of its network."""
        with self.control(name) as control:
            return msgspec.convert(control.call("network.status"), NetworkRow)

    def nat(self, name: str) -> str:
        """What a node believes of its router: none, cone, symmetric or unknown."""
        return self.network(name).nat.kind

    def relay_between(self, one: str, other: str) -> str | None:
        """The node that carries the connection of two others; None where they have none, or need no relay."""
        rows = [row for row in self.network(one).peers if self.peer_names.get(row.peer) == other]
        paths = rows[0].paths if rows else ()
        if not paths or any(path.kind != "relayed" for path in paths):
            return None
        return next((self.peer_names[path.relay] for path in paths if path.relay), None)

    def knows_paths(self) -> bool:
        """Whether this build's nodes tell the paths to their peers."""
        try:
            with self.control("steward") as control:
                control.call("network.status")
        except Refused as error:
            if error.code == "unknown_method":
                return False
            raise
        return True

    def said(self, word: str) -> str:
        """The lines of all nodes' logs with a word in them, each behind the node's name."""
        lines: list[str] = []
        for name in self.names:
            text = (self.folder / name / "node.log").read_text(encoding="utf-8", errors="replace")
            lines += [f"{name}: {line}" for line in text.splitlines() if word in line]
        return "\n".join(lines)

    def is_whole(self) -> bool:
        """Whether the steward is connected to every provider, and every one is free for work."""
        with self.control("steward") as control:
            peers = control.call("node.peers")["peers"]
        assert isinstance(peers, list)
        free = {self.peer_names.get(peer["peer"]) for peer in peers if peer["connected"] and peer["slots_free"]}
        return self.providers <= free

    @contextmanager
    def asleep(self, name: str) -> Iterator[None]:
        """The node's computer sleeps: nothing runs, no packet comes or goes, connections stay as they were."""
        host, pid = self.host(name), self._children[name].pid
        os.kill(pid, signal.SIGSTOP)
        host.plug(False)
        try:
            yield
        finally:
            host.plug(True)
            os.kill(pid, signal.SIGCONT)

    def reclock(self, name: str, skew_s: float) -> None:
        """Start a node again with another clock."""
        self._residents[name] = replace(self._residents[name], skew_s=skew_s)
        self.kill(name)
        self.restart(name)

    @staticmethod
    def _public(lab: Laboratory, name: str) -> Host:
        return (lab.houses.get(name) or lab.house(name, "public")).host

    def _make(self, plans: Sequence[layout.NodePlan], window: Micros) -> DevnetState:
        prices = plans[len(PUBLIC) :]
        here = [layout.NodePlan("steward", ("steward",)), layout.NodePlan("validator", ("validator",))]
        working = [name for name, resident in self._residents.items() if resident.is_provider]
        here += [replace(plan, name=name) for name, plan in zip(working, prices, strict=True)]
        here += [layout.NodePlan(name, ("steward",)) for name in self._residents if name not in {*working, *PUBLIC}]
        peers = layout.lay_out(self.folder, here, window)
        self.peer_names = {peer: name for name, peer in peers.items()}
        runtimes = layout.find_runtimes({})
        public = [name for name in self._residents if self.host(name).house.kind == "public"]
        first = [name for name in public if name in PUBLIC] or public
        bootstraps = {name: f"/ip4/{self.host(name).address}/tcp/{PORT}/p2p/{peers[name]}" for name in first}
        token, account = self._account()
        renters: tuple[str, ...] = ()
        for plan in here:
            others = [address for name, address in bootstraps.items() if name != plan.name]
            layout.write_config(self.folder, plan, PORT, others, renters, runtimes)
            self._spawn(plan.name)
            if plan.name == "steward":
                renters = (self._renter(plan.name, account),)
        url = f"http://127.0.0.1:{GATEWAY_PORT}"
        gateway = GatewayEntry(url, token, str(self.folder / "gateway"), 0)
        nodes = tuple(NodeEntry(p.name, p.roles, str(self.folder / p.name), 0, peers[p.name]) for p in here)
        return self._with_pids(
            DevnetState(layout.NETWORK, str(layout.genesis_file(self.folder)), self._serve(gateway), nodes)
        )

    def _spawn(self, name: str) -> None:
        resident, data = self._residents[name], self.folder / name
        environment = shoal_environment(**{ADVERSARY_SWITCH: "1", "SHOAL_LISTEN": f"/ip4/0.0.0.0/tcp/{PORT}"})
        if resident.skew_s:
            environment = faults.skewed(environment, resident.skew_s)
        command = shoal_command("node", "run", "--data", str(data))
        child: Child = resident.host.start(name, command, data / "node.log", environment)
        self._children[name] = child


def _somehow(peer: str) -> dict[str, object]:
    """A peer of a node that does not tell its paths."""
    return {"peer": peer, "paths": [{"kind": "connected"}]}


def _texts(value: object) -> list[str]:
    return msgspec.convert(value, list[str])
