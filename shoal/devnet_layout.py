"""The plan of a local network: which nodes there are, what each offers, and the files that they start from."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from msgspec import structs

from node.clock import Clock
from node.config import FIGURES, Config, Role, identity
from protocol.credits import credits_text
from protocol.genesis import Genesis
from protocol.identity import peer_text
from protocol.policy import Policy
from protocol.units import CREDIT, MINUTE, SECOND, Credits, Micros

NETWORK: Final = "devnet"
TREASURE: Final = Credits(1_000_000 * CREDIT)
"""Free credits of the steward's node, from which renters' accounts are filled."""

STAKE: Final = Credits(1_000 * CREDIT)
"""Of every provider and validator: enough collateral for a thousand chunks of the examples."""

WINDOW: Final = Micros(2 * SECOND)
"""Time to appeal against a decision, unless `--window` says otherwise: long enough to see that pay is held."""

POLICY: Final = Policy(dispute_window=WINDOW, rule_time=5 * MINUTE, has_beacon=True)
"""The economics of a local network are those of any other, with a dispute window that one can sit through. A panel has
long enough for its deadlines (`verifier/court.py` keeps a minute of `rule_time` for itself)."""

CHEAT: Final = "wrong-pixels"

CANARY_FUND: Final = Credits(1_000 * CREDIT)
"""Free credits of a validator that issues canaries: its mirror renters pay for them as anybody does."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node to be."""

    name: str
    roles: tuple[Role, ...]
    slots: int = 0
    price: Credits = Credits(0)
    misbehave: str = ""
    canaries: int = 0
    """Per hour."""
    benchmarks: int = 0
    """Per hour; all of a devnet share one machine, whose figures then say nothing."""


def node_plans(providers: int, cheats: bool, canaries: int = 0) -> tuple[NodePlan, ...]:
    """One steward, one validator, and providers who ask a little more each; the first is the one that cheats."""
    prices = [Credits(CREDIT * (40 + 5 * (number % 4)) // 100) for number in range(providers)]
    working = [NodePlan(f"provider-{n}", ("provider",), 1, price) for n, price in enumerate(prices, start=1)]
    if cheats:
        working[0] = replace(working[0], misbehave=CHEAT)
    return (NodePlan("steward", ("steward",)), NodePlan("validator", ("validator",), canaries=canaries), *working)


def lay_out(folder: Path, plans: Sequence[NodePlan], window: Micros = WINDOW) -> dict[str, str]:
    """Make every node's folder and key, and the genesis file. `window`: to appeal in. Returns the peer ids by name."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    peers = {plan.name: identity(Config(data=folder / plan.name)).peer for plan in plans}
    balances: list[tuple[Literal["U", "S"], bytes, int]] = [
        ("U", peers[plan.name], TREASURE) if "steward" in plan.roles else ("S", peers[plan.name], STAKE)
        for plan in plans
    ]
    balances.extend(("U", peers[plan.name], CANARY_FUND) for plan in plans if plan.canaries)
    validators = tuple((peers[plan.name], 1) for plan in plans if "validator" in plan.roles)
    policy = structs.replace(POLICY, dispute_window=window)
    genesis = Genesis(NETWORK, Clock().now(), validators, tuple(balances), policy=policy)
    genesis_file(folder).write_text(genesis.to_json(), encoding="utf-8")
    return {name: peer_text(peer) for name, peer in peers.items()}


def genesis_file(folder: Path) -> Path:
    """Where the network's first state lies."""
    return folder / "genesis.json"


def write_config(
    folder: Path,
    plan: NodePlan,
    port: int,
    bootstrap: Sequence[str],
    serves: Sequence[str],
    runtimes: Mapping[str, str],
) -> None:
    """The node's config.toml: whoever starts it by hand with --data gets the same node."""
    lines = [
        "# Written by `shoal devnet up`; the node reads it at every start.",
        f"network = {_text(NETWORK)}",
        f"name = {_text(plan.name)}",
        f"roles = {_list(plan.roles)}",
        f"listen = {_list([f'/ip4/127.0.0.1/tcp/{port}'])}",
        f"bootstrap = {_list(bootstrap)}",
        f"genesis = {_text(str(genesis_file(folder)))}",
        f"price_per_hour = {_text(credits_text(plan.price))}",
        f"slots = {plan.slots}",
        f"serves = {_list(serves)}",
        "port_mapping = false",  # Everybody is on this machine: no router has a say, and the household need not know.
        "mdns = false",
        f"benchmarks_per_hour = {plan.benchmarks}",
    ]
    if plan.canaries:
        lines.append(f"canaries_per_hour = {plan.canaries}")
    if plan.misbehave:
        lines.append(f"misbehave = {_text(plan.misbehave)}")
    if runtimes:
        lines += ["", "[runtimes]", *(f"{_text(name)} = {_text(path)}" for name, path in runtimes.items())]
    (folder / plan.name / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def share_figures(folder: Path, measured: str, name: str) -> None:
    """Give a node what another of this machine has measured of it (node/host.py): once, and not by all at once."""
    shutil.copyfile(folder / measured / FIGURES, folder / name / FIGURES)


def held_ports(count: int) -> list[socket.socket]:
    """Sockets that keep as many ports of the loopback until they are closed: nobody is given one of them by chance, and
    whoever names one and reuses addresses, as nodes and gateways do, may listen there."""
    held = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for one in held:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(("127.0.0.1", 0))
    except OSError:
        for one in held:
            one.close()
        raise
    return held


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now, all different."""
    held = held_ports(count)
    ports = [port_of(one) for one in held]
    for one in held:
        one.close()
    return ports


def port_of(held: socket.socket) -> int:
    """The port that it keeps."""
    return int(held.getsockname()[1])


def find_runtimes(environment: Mapping[str, str]) -> dict[str, str]:
    """Interpreters besides our own that jobs of the examples want: `torch`, from SHOAL_TORCH_PYTHON or .venv-torch, and
    `engines` (Blender, OpenMM, ezkl, TenSEAL), from SHOAL_ENGINES_PYTHON or .venv-engines."""
    own = {"torch": sys.executable if _has_torch() else None}
    found: dict[str, str] = {}
    for name in ("torch", "engines"):
        beside = Path(__file__).parent.parent / f".venv-{name}" / "bin" / "python"
        named = (environment.get(f"SHOAL_{name.upper()}_PYTHON"), str(beside), own.get(name))
        if path := next((path for path in named if path and Path(path).is_file()), None):
            found[name] = path
    return found


def _has_torch() -> bool:
    from importlib.util import find_spec

    return find_spec("torch") is not None


def _text(value: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(value, ensure_ascii=False)


def _list(values: Sequence[str]) -> str:
    return "[" + ", ".join(_text(value) for value in values) + "]"
