"""One real network for all end-to-end tests: a steward with a gateway, a validator, three providers, each a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import pytest

from gateway.schemas import ChunkStatus, JobStatus
from protocol import genesis
from protocol.errors import Unavailable
from protocol.genesis import Genesis
from protocol.units import Micros
from shoal import devnet_layout as layout
from shoal import receipts
from shoal.client import FINAL_STATES, Client
from shoal.devnet import Devnet, node_lines
from shoal.devnet_state import DevnetState
from shoal.processes import until
from shoal.receipt_account import Account

PATIENCE_S = 90.0
"""For each condition, on a machine that does other things too; most take a second or two."""

WAITS: Final = "while [ ! -e $SHOAL_IN/enough ]; do sleep 0.1; done"
"""A command of a job that cannot end before `Network.let_end` says so, however long the test is kept from running. It
names an estimate: of chunks shorter than `protocol/bidding.LOOKAHEAD` a provider holds several."""

T = TypeVar("T")


class Network:
    """The running network, seen by a renter who can also pull plugs."""

    def __init__(self, devnet: Devnet, state: DevnetState, client: Client, folder: Path) -> None:
        self.devnet = devnet
        self.state = state
        self.client = client
        self.folder = folder
        self._names = {node.peer: node.name for node in state.nodes}

    def name(self, peer: str | None) -> str:
        """A node's name by its peer id."""
        return self._names[peer or ""]

    def run(self, job: str, text: str) -> str:
        """Write a job file, submit it and agree to the quote; the job's id."""
        path = self.folder / f"{job}.yml"
        path.write_text(f"type: task\nname: {job}\n{text}", encoding="utf-8")
        submitted = self.client.submit(path)
        self.client.confirm(submitted.job)
        return submitted.job

    def wait(self, what: str, check: Callable[[], T | None]) -> T:
        """The first answer of `check` that is not None; when the time is up, with a picture of the whole network."""
        try:
            return until(what, check, [], PATIENCE_S)
        except Unavailable as error:
            raise AssertionError(f"{what}: not after {PATIENCE_S:g} s\n{self.picture()}") from error

    def picture(self) -> str:
        """Who is connected with whom, whose offers are known, where every unfinished job stands."""
        lines: list[str] = []
        for line in node_lines(self.state):
            status = line["status"]
            assert isinstance(status, dict)
            connected = [self.name(peer) for peer in status.get("connected", [])]
            lines.append(f"{line['name']} {line['state']}: connected {connected}, {status.get('running')}")
        peers = self.ask("steward", "node.peers")["peers"]
        assert isinstance(peers, list)
        lines += [f"steward knows {self.name(p['peer'])}: {p['slots_free']} free, seen {p['seen']}" for p in peers]
        jobs = [self.client.status(job.job) for job in self.client.list() if job.state not in FINAL_STATES]
        lines += [f"{job.name} {job.state}: {job.chunks}" for job in jobs]
        return "\n".join(lines)

    def running(self, job: str, steps: int = 1) -> ChunkStatus:
        """Wait until `steps` chunks of the job compute; the first of them."""

        def look() -> ChunkStatus | None:
            found = [chunk for chunk in self.client.status(job).chunks if chunk.state == "running"]
            return found[0] if len(found) >= steps else None

        return self.wait(f"{steps} chunks of {job} compute", look)

    def let_end(self, nodes: str = "*") -> None:
        """Let every chunk and every audit that waits (`WAITS`) on these nodes go on."""
        for inputs in self.devnet.folder.glob(f"{nodes}/tasks/*/in"):
            with suppress(FileNotFoundError):  # It is over meanwhile.
                (inputs / "enough").touch()

    def over(self, job: str, *, waits: str = "") -> JobStatus:
        """Wait until the job has ended in one way or another; its pay may still be held. `waits`: the nodes on which it
        has to be let."""

        def look() -> JobStatus | None:
            if waits:
                self.let_end(waits)
            status = self.client.status(job)
            return status if status.state in FINAL_STATES else None

        return self.wait(f"{job} is over", look)

    def settled(self, job: str, *, waits: str = "") -> JobStatus:
        """Wait until the job is over; it must have settled with every step accepted and no money left behind. `waits`:
        the nodes on which it has to be let."""

        def look() -> JobStatus | None:
            if waits:
                self.let_end(waits)
            status = self.client.status(job)
            is_paid = status.money is None or status.money.pending == 0  # Held until the dispute window closes.
            return status if status.state in FINAL_STATES and is_paid else None

        status = self.wait(f"{job} is over and paid", look)
        assert status.state == "settled", (status.state, status.reason, status.chunks)
        assert status.accepted == status.steps
        money = status.money
        assert money is not None
        assert money.cap == money.paid + money.commission + money.evidence + money.refunded, money
        return status

    def account(self, receipt: bytes) -> Account:
        """A job's money from its receipts alone, offline. It adds up."""
        account = receipts.verify(receipt, self.genesis)
        assert sum(account.movements().values()) == 0
        return account

    @property
    def genesis(self) -> Genesis:
        """What the network began with."""
        return genesis.from_json(Path(self.state.genesis).read_bytes())

    def ask(self, node: str, method: str, **params: object) -> dict[str, object]:
        """A question to one node's control socket."""
        with self.devnet.control(node) as control:
            return control.call(method, params)

    def joined(self, name: str) -> None:
        """Wait until the steward is connected to a node that was started again, and knows a slot of it."""

        def look() -> bool | None:
            peers = self.ask("steward", "node.peers")["peers"]
            assert isinstance(peers, list)
            known = {self.name(peer["peer"]): peer for peer in peers}
            back = known.get(name)  # One that died is forgotten, until it says its offer again.
            return True if back is not None and back["connected"] and back["slots_free"] else None

        self.wait(f"{name} is back", look)

    def height(self, node: str) -> int:
        """How many blocks a node's copy of the ledger has."""
        ledger = self.ask(node, "node.status")["ledger"]
        assert isinstance(ledger, dict)
        return int(ledger["height"])

    def pid(self, node: str) -> int:
        """The process of a node."""
        return int((self.devnet.folder / node / "lock").read_text(encoding="ascii"))


SHARED: Final = pytest.StashKey[Network]()


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Up with the first test of this folder, down after its last: idle nodes slow others. Each leaves it whole."""
    folder = request.node.getparent(pytest.Dir)
    if SHARED not in folder.stash:
        opening = running_network(tmp_path_factory.mktemp("e2e"))
        folder.stash[SHARED] = opening.__enter__()
        folder.addfinalizer(lambda: opening.__exit__(None, None, None))
    found: Network = folder.stash[SHARED]
    return found


@contextmanager
def running_network(
    folder: Path,
    providers: int = 3,
    torch: str = "",
    cheats: bool = False,
    window: Micros = layout.WINDOW,
    canaries: int = 0,
) -> Iterator[Network]:
    """A devnet; `torch`: the Python of that runtime. The rest is as `Devnet.up` says."""
    devnet = Devnet(folder / "net", lambda text: None, {"SHOAL_TORCH_PYTHON": torch} if torch else None)
    state = devnet.up(providers, cheats=cheats, window=window, canaries=canaries)
    try:
        with Client(state.gateway.url, state.gateway.token) as client:
            yield Network(devnet, state, client, folder)
    finally:
        killed = devnet.down()
    assert not killed, f"{killed} did not end when they were asked to"
