"""A whole network of real processes on this machine: one steward with a gateway, one validator, four providers.

network = Devnet(folder, out)
state = network.up()      # returns when jobs can be submitted
network.down()
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from node.config import ADVERSARY_SWITCH
from node.control_client import ControlClient
from protocol.errors import Refused, ShoalError, Unavailable
from protocol.units import CREDIT, Micros
from shoal import devnet_layout as layout
from shoal.devnet_state import (
    STATE_FILE,
    DevnetState,
    GatewayEntry,
    NodeEntry,
    is_running,
    stored_state,
    write_state,
)
from shoal.processes import Child, end_all, shoal_command, shoal_environment, until

START_SECONDS: Final = 180.0
"""For each step of a start: an interpreter with the network library needs 2 s, and six share the cores, which may have
other things to do."""

ACCOUNT: Final = "renter"
FIRST_DEPOSIT: Final = 100 * CREDIT
Say = Callable[[str], None]


class Devnet:
    """One local network in one folder."""

    def __init__(self, folder: Path, say: Say, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._say = say
        self._environment = os.environ if environment is None else environment
        self._children: dict[str, Child] = {}
        self._held: list[socket.socket] = []
        """What keeps our ports while a node starts, or lies dead until it is started again."""

    def up(
        self,
        providers: int = 4,
        *,
        cheats: bool = False,
        deposit: int = FIRST_DEPOSIT,
        window: Micros = layout.WINDOW,
        canaries: int = 0,
    ) -> DevnetState:
        """Make the network, or start what is missing of it. Ends what it started when anything fails. `window`: to
        appeal in, `canaries`: that the validator issues per hour, both of a new network."""
        kept = stored_state(self.folder)
        if kept is not None and all(is_running(pid, data) for pid, data in _processes(kept)):
            raise Refused(
                f"a network runs already in {self.folder}: {kept.gateway.url}", code="devnet_running",
                fix="Use it, or end it with `shoal devnet down`.",
            )  # fmt: skip
        try:
            state = self._start(kept) if kept else self._make(layout.node_plans(providers, cheats, canaries), window)
            write_state(self.folder, state)
            self._ready(state, deposit)
        except BaseException:
            self._end([])
            raise
        return state

    def down(self) -> list[int]:
        """End every process; returns the pids that had to be killed. What they stored stays."""
        state = stored_state(self.folder)
        return self._end([pid for pid, data in _processes(state) if is_running(pid, data)] if state is not None else [])

    def _end(self, others: Sequence[int]) -> list[int]:
        """End our children, and other processes of the network."""
        own = [child.pid for child in self._children.values() if child.exit_code is None]
        killed = end_all([*own, *(pid for pid in others if pid not in own)])
        for child in self._children.values():
            child.reap()
        self._children.clear()
        self._let_ports_go()
        return killed

    def _let_ports_go(self) -> None:
        for held in self._held:
            held.close()
        self._held.clear()

    def release(self) -> None:
        """Leave the processes running when this one ends."""
        for child in self._children.values():
            child.release()
        self._let_ports_go()

    def kill(self, name: str) -> int:
        """`kill -9` one node, as a power cut would. Returns the pid that it had."""
        child = self._children[name]
        child.kill()
        return child.pid

    def restart(self, name: str) -> None:
        """Start what was killed, a node or the `gateway`, again on what it stored; returns when it answers."""
        state = stored_state(self.folder)
        if state is None or (name in self._children and self._children[name].exit_code is None):
            raise Refused(f"{name} runs, or there is no network", code="devnet_running", fix="Kill it first.")
        if name == "gateway":
            self._serve(state.gateway)
            child = [self._children[name]]
            until("the gateway is ready", lambda: _is_ready(state.gateway.url), child, START_SECONDS)
        else:
            self._spawn(name)
            self._answering(name, [self._children[name]])  # Others may lie dead: one is raised after the other.
        write_state(self.folder, self._with_pids(state))

    def control(self, name: str) -> ControlClient:
        """A line to one node."""
        return ControlClient(self.folder / name / "control.sock")

    def _make(self, plans: Sequence[layout.NodePlan], window: Micros) -> DevnetState:
        self._say(f"making {len(plans)} identities and a genesis file in {self.folder}")
        peers = layout.lay_out(self.folder, plans, window)
        self._held = layout.held_ports(len(plans) + 1)
        ports = [layout.port_of(one) for one in self._held]
        runtimes = layout.find_runtimes(self._environment)
        steward = plans[0]
        layout.write_config(self.folder, steward, ports[0], (), (), runtimes)
        token, account = self._account()
        self._spawn(steward.name)
        renter = self._renter(steward.name, account)
        bootstrap = [f"/ip4/127.0.0.1/tcp/{ports[0]}/p2p/{peers[steward.name]}"]
        for plan, port in zip(plans[1:], ports[1:], strict=False):
            layout.write_config(self.folder, plan, port, bootstrap, (renter,), runtimes)
            layout.share_figures(self.folder, steward.name, plan.name)
            self._spawn(plan.name)
        gateway = GatewayEntry(f"http://127.0.0.1:{ports[-1]}", token, str(self.folder / "gateway"), 0)
        nodes = tuple(NodeEntry(p.name, p.roles, str(self.folder / p.name), 0, peers[p.name]) for p in plans)
        return self._with_pids(
            DevnetState(layout.NETWORK, str(layout.genesis_file(self.folder)), self._serve(gateway), nodes)
        )

    def _start(self, kept: DevnetState) -> DevnetState:
        missing = [node.name for node in kept.nodes if not is_running(node.pid, node.data)]
        self._say(f"starting what does not run of the network in {self.folder}")
        for name in missing:
            self._spawn(name)
        if not is_running(kept.gateway.pid, kept.gateway.data):
            self._serve(kept.gateway)
        return self._with_pids(kept)

    def _spawn(self, name: str) -> None:
        data = self.folder / name
        command = shoal_command("node", "run", "--data", str(data))
        self._children[name] = Child(name, command, data / "node.log", shoal_environment(**{ADVERSARY_SWITCH: "1"}))

    def _serve(self, entry: GatewayEntry) -> GatewayEntry:
        port = entry.url.rpartition(":")[2]
        control = str(self.folder / "steward" / "control.sock")
        words = (
            "gateway",
            "run",
            "--data",
            entry.data,
            "--socket",
            control,
            "--network-name",
            layout.NETWORK,
            "--port",
            port,
        )
        command = shoal_command(*words, "--rate-limit", "6000")
        self._children["gateway"] = Child("gateway", command, Path(entry.data) / "gateway.log", shoal_environment())
        return entry

    def _with_pids(self, state: DevnetState) -> DevnetState:
        def pid(name: str, before: int) -> int:
            return self._children[name].pid if name in self._children else before

        gateway = replace(state.gateway, pid=pid("gateway", state.gateway.pid))
        return replace(
            state, gateway=gateway, nodes=tuple(replace(one, pid=pid(one.name, one.pid)) for one in state.nodes)
        )

    def _account(self) -> tuple[str, str]:
        """A token of the first renter, and the renter's account id."""
        from gateway.config import GatewayConfig
        from shoal.commands.gateway import make_token

        data = self.folder / "gateway"
        token = make_token(data, ACCOUNT, ["renter"])
        file = GatewayConfig(socket=data, data=data, network="").database
        with closing(sqlite3.connect(file)) as base:
            row = base.execute("SELECT id FROM accounts WHERE name = ?", (ACCOUNT,)).fetchone()
        return token, str(row[0])

    def _renter(self, steward: str, account: str) -> str:
        """The peer id of the renter, whose jobs this machine's owner allows without a sandbox."""
        self._say("starting the steward's node")
        self._answering(steward)
        with self.control(steward) as node:
            return str(node.call("renter.create", {"name": account})["renter"])

    def _answering(self, name: str, needed: Sequence[Child] = ()) -> None:
        def answers() -> bool | None:
            try:
                with self.control(name) as node:
                    node.call("node.status")
            except Unavailable:
                return None
            return True

        until(f"{name} answers", answers, needed or list(self._children.values()), START_SECONDS)

    def _ready(self, state: DevnetState, deposit: int) -> None:
        """Until a job could be submitted: all answer and know each other, the gateway is ready, money is there."""
        children = list(self._children.values())
        self._say("waiting until every process answers")
        for node in state.nodes:
            self._answering(node.name)
        wanted = {node.peer for node in state.nodes if "provider" in node.roles}
        self._say("waiting until the peers know each other")
        until("the steward knows every provider", lambda: self._knows(wanted), children, START_SECONDS)
        until("the steward follows the ledger", self._follows, children, START_SECONDS)
        until("the gateway is ready", lambda: _is_ready(state.gateway.url), children, START_SECONDS)
        if deposit:
            self._say("putting credits on the renter's account")
            from shoal.client import Client

            with Client(state.gateway.url, state.gateway.token) as client:
                client.deposit(deposit, "devnet-first-deposit")

    def _follows(self) -> bool | None:
        """The first block has come: until then the steward signs nothing."""
        with self.control("steward") as node:
            ledger = node.call("node.status")["ledger"]
        return True if isinstance(ledger, dict) and ledger["height"] else None

    def _knows(self, wanted: set[str]) -> bool | None:
        with self.control("steward") as node:
            peers = node.call("node.peers")["peers"]
        known = {peer["peer"] for peer in peers if peer["slots"]} if isinstance(peers, list) else set()
        return True if wanted <= known else None


def _processes(state: DevnetState) -> list[tuple[int, str]]:
    """(pid, data folder) of everything that belongs to a network."""
    return [(state.gateway.pid, state.gateway.data), *((node.pid, node.data) for node in state.nodes)]


def remove(folder: Path) -> None:
    """Delete a network's folder; `Refused` while it runs, or where the folder is something else."""
    state = stored_state(folder)
    if state is not None and any(is_running(pid, data) for pid, data in _processes(state)):
        raise Refused(
            f"a network runs in {folder}", code="devnet_running", fix="End it with `shoal devnet down` first."
        )
    if (
        folder.exists()
        and any(folder.iterdir())
        and not (folder / STATE_FILE).exists()
        and not (folder / "genesis.json").exists()
    ):
        raise Refused(f"{folder} is no network of ours", code="bad_folder", fix="Name another folder with --data.")
    shutil.rmtree(folder, ignore_errors=False) if folder.exists() else None


def node_lines(state: DevnetState) -> list[dict[str, object]]:
    """What every node of a network does now; one that does not answer is told as such."""
    lines: list[dict[str, object]] = []
    for node in state.nodes:
        line: dict[str, object] = {"name": node.name, "pid": node.pid, "peer": node.peer, "roles": list(node.roles)}
        try:
            with ControlClient(Path(node.data) / "control.sock", deadline_s=5) as control:
                status = control.call("node.status")
            lines.append(line | {"state": "up", "status": status})
        except ShoalError as error:
            state_text = "silent" if is_running(node.pid, node.data) else "down"
            lines.append(line | {"state": state_text, "status": {}, "detail": error.detail})
    return lines


def _is_ready(url: str) -> bool | None:
    with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
        return True if answer.status == 200 else None
    return None
