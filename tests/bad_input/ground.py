"""Where bad input is tried: a real node that is steward, validator and provider at once, and a real gateway before it.

Every way to do something wrong ends in a `Told`: what the one who did it gets to read.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx2
import msgspec

from protocol.errors import RemoteViolation, ShoalError
from protocol.units import CREDIT, Credits
from shoal import devnet_layout as layout
from shoal.client import Client
from shoal.commands.gateway import make_token
from shoal.processes import Child, end_all, shoal_command, shoal_environment, until

PATIENCE_S = 180.0
QUOTED_S = 60.0
BLAMES = "the peer that sent it is named and scored"
"""What is done about bad input from a peer, to which nobody can be asked to make a change."""

Plain = dict[str, object]
T = TypeVar("T")


@dataclass(frozen=True)
class Told:
    """An error as it arrived."""

    code: str
    cause: str
    fix: str
    exit_code: int | None = None
    """Of a command."""
    status: int | None = None
    """Of an HTTP answer."""
    noise: str = ""
    """Whatever else was printed."""


@dataclass(frozen=True)
class Row:
    """One bad input."""

    id: str
    act: Callable[[Ground], Told]
    code: str
    says: str
    """Must be part of the cause."""


def raised(step: Callable[[], object]) -> Told:
    """The error that the step must raise. A violation names its peer instead of advising it."""
    try:
        step()
    except RemoteViolation as error:
        return Told(error.code, error.rule, BLAMES if len(error.peer) == 32 else "")
    except ShoalError as error:
        return Told(error.code, error.detail, error.fix)
    raise AssertionError("nothing was refused")


def raising(step: Callable[[], object]) -> Callable[[Ground], Told]:
    """A row's act that needs nothing but the code."""
    return lambda ground: raised(step)


@dataclass
class Ground:
    """The node, the gateway and two renters."""

    folder: Path
    url: str = ""
    tokens: dict[str, str] = field(default_factory=dict)
    peer: str = ""
    over: str = ""
    """A job of Anna, cancelled."""
    _fresh: int = 0
    _quoted: dict[str, float] = field(default_factory=dict)
    """Jobs of Anna, and when they were quoted."""

    @property
    def job(self) -> str:
        """A job of Anna, quoted: another one each minute, as a quote is good for five."""
        if not self._quoted or time.monotonic() - next(reversed(self._quoted.values())) > QUOTED_S:
            began, key = time.monotonic(), f"quoted-{len(self._quoted)}" if self._quoted else "quoted"
            self._quoted[str(self.submit(SPEC, key)["job"])] = began
        return next(reversed(self._quoted))

    def fresh(self) -> Path:
        """A new empty folder."""
        self._fresh += 1
        path = self.folder / f"fresh-{self._fresh}"
        path.mkdir()
        return path

    @property
    def node(self) -> Path:
        """The running node's data directory."""
        return self.folder / "net" / "node"

    # ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def http(
        self, method: str, path: str, *, who: str | None = "anna", token: str | None = None, json: object = None,
        content: bytes | Iterator[bytes] | None = None, headers: Mapping[str, str] | None = None,
    ) -> Told:  # fmt: skip
        """One request that must be refused with a problem document."""
        sent = {"Authorization": f"Bearer {token or self.tokens[who or '']}"} if token or who else {}
        with httpx2.Client(base_url=self.url, trust_env=False, timeout=30) as client:
            body = {"content": content} if content is not None else {"json": json} if json is not None else {}
            answer = client.request(method, path, headers=sent | dict(headers or {}), **body)
        assert answer.status_code >= 400, answer.text
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        problem = answer.json()
        assert problem["status"] == answer.status_code and problem["request_id"] and problem["title"]
        places = "; ".join(f"{item['pointer']}: {item['detail']}" for item in problem.get("errors", []))
        return Told(problem["code"], f"{problem['detail']} {places}", problem.get("fix", ""), status=answer.status_code)

    def submit(self, spec: Plain, key: str, who: str = "anna") -> Plain:
        """A job that the gateway takes."""
        with Client(self.url, self.tokens[who]) as client:
            return client.ask(dict[str, object], "POST", "/v1/marketplace/jobs", body={"spec": spec}, key=key)

    # ── control socket ───────────────────────────────────────────────────────────────────────────────────────────────
    def frame(self, body: bytes, length: int | None = None) -> Told:
        """Raw bytes on the control socket; the error that comes back."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(PATIENCE_S)
            line.connect(str(self.node / "control.sock"))
            line.sendall((len(body) if length is None else length).to_bytes(4, "big") + body)
            with line.makefile("rb") as stream:
                reply = msgspec.msgpack.decode(stream.read(int.from_bytes(stream.read(4), "big")))
        error = reply["error"]
        assert error["fault"] in ("caller", "unavailable"), error
        return Told(error["code"], error["detail"], error["fix"])

    def call(self, method: str, **params: object) -> Told:
        """A well-formed request that must be refused."""
        return self.frame(msgspec.msgpack.encode({"id": 1, "method": method, "params": params}))

    # ── command line ─────────────────────────────────────────────────────────────────────────────────────────────────
    def cli(self, *words: str, env: Mapping[str, str] | None = None) -> Told:
        """A command in this process that must end with an error on stderr and nothing on stdout."""
        from shoal.cli import main

        out, err = io.StringIO(), io.StringIO()
        ours = {"SHOAL_HOME": str(self.folder / "home")} | dict(env or {})
        with _environment(ours), _loggers(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*words, "--json"])
        lines = err.getvalue().strip().splitlines()
        error = json.loads(lines[-1])["error"]
        noise = out.getvalue() + "\n".join(lines[:-1])
        return Told(error["code"], error["detail"], error["fix"], exit_code=code, noise=noise)

    def shoal(self, *words: str, who: str = "anna") -> Told:
        """A command that talks to the gateway as a renter."""
        return self.cli(*words, "--gateway", self.url, "--token", self.tokens[who])


@contextlib.contextmanager
def _loggers() -> Iterator[None]:
    """What a node in this process does to the root logger ends with the block."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


@contextlib.contextmanager
def _environment(extra: Mapping[str, str]) -> Iterator[None]:
    """Only these SHOAL_ variables while the block runs."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("SHOAL_")]:
        del os.environ[name]
    os.environ.update(extra)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


SPEC: Plain = {"name": "x", "runtime": "python", "commands": ["true"], "chunks": [{}]}
"""A job that the node can do."""


def spec(**changes: object) -> Plain:
    """The same with changes."""
    return SPEC | changes


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Ground]:
    """Start node and gateway, make two renters and Anna's jobs; end everything."""
    ground = Ground(folder)
    net = folder / "net"
    plan = layout.NodePlan("node", ("steward", "validator"), 0, Credits(0))
    host = layout.NodePlan("host", ("provider",), 1, Credits(CREDIT * 4 // 10))
    ground.peer = layout.lay_out(net, [plan, host])["node"]
    held = layout.held_ports(3)  # Until all listen: nobody else is given one of them meanwhile.
    node_port, host_port, port = map(layout.port_of, held)
    layout.write_config(net, plan, node_port, (), (), {})
    layout.write_config(net, host, host_port, (f"/ip4/127.0.0.1/tcp/{node_port}/p2p/{ground.peer}",), (), {})
    for name, scopes in (("anna", ["renter"]), ("boris", ["renter"]), ("reader", ["read"])):
        ground.tokens[name] = make_token(folder / "gateway", name, scopes)
    words = ("gateway", "run", "--data", str(folder / "gateway"), "--socket", str(ground.node / "control.sock"))
    limits = ("--network-name", layout.NETWORK, "--port", str(port), "--rate-limit", "100000")
    children = [
        Child(
            "node", shoal_command("node", "run", "--data", str(ground.node)), folder / "node.log", shoal_environment()
        ),
        Child(
            "host", shoal_command("node", "run", "--data", str(net / "host")), folder / "host.log", shoal_environment()
        ),
        Child("gateway", shoal_command(*words, *limits), folder / "gateway.log", shoal_environment()),
    ]
    ground.url = f"http://127.0.0.1:{port}"
    try:
        until("the gateway is ready", lambda: _is_ready(ground), children, PATIENCE_S)
        with Client(ground.url, ground.tokens["anna"]) as client:
            client.deposit(CREDIT, "first")
        assert ground.job
        ground.over = str(ground.submit(SPEC, "over")["job"])
        with Client(ground.url, ground.tokens["anna"]) as client:
            client.cancel(ground.over)
        yield ground
    finally:
        end_all([child.pid for child in children])
        for child in children:
            child.reap()
        for one in held:
            one.close()


def _is_ready(ground: Ground) -> bool | None:
    """Once the node answers through the gateway and offers its slot."""
    with contextlib.suppress(ShoalError), Client(ground.url, ground.tokens["anna"], deadline_s=30) as client:
        plan = client.ask(dict[str, object], "POST", "/v1/marketplace/plan", body={"spec": SPEC})
        return True if plan["candidates"] else None
    return None
