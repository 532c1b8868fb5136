"""A home network in network namespaces: a host, a router with a real miniupnpd, and somebody outside who dials in.

Needs root, ip, nft and miniupnpd; `missing()` says what is not there.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
HOST, INSIDE, OUTSIDE, STRANGER = "192.168.77.10", "192.168.77.1", "44.1.2.2", "44.1.2.1"
WAIT_S: Final = 60.0
Event = dict[str, object]

RULES: Final = """
table inet filter {
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain forward { type filter hook forward priority 0; policy accept; jump miniupnpd; iifname "wan" ct state new drop; }
  chain pre { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain post { type nat hook postrouting priority 100; jump postrouting_miniupnpd; oifname "wan" masquerade; }
}
"""


def missing() -> str:
    """Why the laboratory cannot be built here; empty when it can."""
    if os.geteuid() != 0:
        return "not root"
    absent = [name for name in ("ip", "nft", "miniupnpd") if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True)
    return "" if probe.returncode == 0 else "no network namespaces"


def run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class Home:
    """Namespaces `<tag>p` (outside), `<tag>r` (router), `<tag>h` (host)."""

    def __init__(self, folder: Path) -> None:
        self.tag = f"s{secrets.token_hex(3)}"
        self.folder = folder
        self.daemon: subprocess.Popen[bytes] | None = None

    def build(self) -> None:
        tag = self.tag
        for name in "prh":
            run("ip", "netns", "add", tag + name)
            run("ip", "-n", tag + name, "link", "set", "lo", "up")
        self._wire("r", "wan", f"{OUTSIDE}/24", "p", "out", f"{STRANGER}/24")
        self._wire("r", "lan", f"{INSIDE}/24", "h", "eth0", f"{HOST}/24")
        run("ip", "-n", tag + "r", "route", "add", "default", "via", STRANGER)
        run("ip", "-n", tag + "h", "route", "add", "default", "via", INSIDE)
        run("ip", "netns", "exec", tag + "r", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.rules()

    def _wire(self, one: str, name: str, ip: str, other: str, far: str, far_ip: str) -> None:
        peer = ("type", "veth", "peer", "name", far, "netns", self.tag + other)
        run("ip", "link", "add", name, "netns", self.tag + one, *peer)
        for end, link, address in ((one, name, ip), (other, far, far_ip)):
            run("ip", "-n", self.tag + end, "link", "set", link, "up")
            run("ip", "-n", self.tag + end, "addr", "add", address, "dev", link)

    def rules(self) -> None:
        """The router's table as after power-on: no mapping in it."""
        run("ip", "netns", "exec", self.tag + "r", "nft", "flush", "ruleset")
        run("ip", "netns", "exec", self.tag + "r", "nft", "-f", "-", text=RULES)

    def start_daemon(self, nat_pmp: bool = True, upnp: bool = True, rule: str = "allow", lifetime: int = 120) -> None:
        """Start miniupnpd; without `nat_pmp` it speaks neither PCP nor NAT-PMP."""
        config = self.folder / "miniupnpd.conf"
        lines = (
            "ext_ifname=wan", "listening_ip=lan", f"enable_natpmp={'yes' if nat_pmp else 'no'}",
            f"enable_upnp={'yes' if upnp else 'no'}", "secure_mode=yes", "system_uptime=no", "min_lifetime=2",
            f"max_lifetime={lifetime}", "uuid=00000000-0000-0000-0000-000000000001", "notify_interval=900",
            f"{rule} 1024-65535 192.168.77.0/24 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535",
        )  # fmt: skip
        config.write_text("\n".join(lines) + "\n", encoding="ascii")
        with (self.folder / "miniupnpd.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                self.inside("r", "miniupnpd", "-f", str(config), "-d", "-P", str(self.folder / "pid")),
                stdout=log, stderr=log,
            )  # fmt: skip
        wanted = b"Listening for NAT-PMP/PCP" if nat_pmp else b"HTTP listening"
        until(lambda: wanted in (self.folder / "miniupnpd.log").read_bytes(), "miniupnpd starts")

    def stop_daemon(self) -> None:
        """The router loses power: the daemon is killed, its table and its log are gone."""
        if self.daemon is not None:
            self.daemon.send_signal(signal.SIGKILL)
            self.daemon.wait()
            self.daemon = None
            (self.folder / "miniupnpd.log").write_bytes(b"")

    def inside(self, name: str, *command: str) -> list[str]:
        """A command line that runs in a namespace."""
        return ["ip", "netns", "exec", self.tag + name, *command]

    def mapped(self) -> str:
        """What the router forwards."""
        chain = ("nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd")
        return run(*self.inside("r", *chain))

    def can_dial(self, port: int) -> bool:
        """Whether somebody outside gets in at the router's address."""
        code = f"import socket; socket.create_connection(('{OUTSIDE}', {port}), 1).close()"
        return subprocess.run(self.inside("p", sys.executable, "-c", code), capture_output=True).returncode == 0

    def remove(self) -> None:
        self.stop_daemon()
        for name in "prh":
            subprocess.run(["ip", "netns", "del", self.tag + name], capture_output=True)


class Guest:
    """A Python process in one of the namespaces: events come as JSON lines."""

    def __init__(self, home: Home, where: str, script: str, *arguments: str) -> None:
        words = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
        self.process = subprocess.Popen(
            home.inside(where, *words), stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.events: list[dict[str, object]] = []

    def next(self, kind: str, fits: Callable[[Event], bool] = lambda event: True) -> Event:
        """The next event of a kind that fits; the process ends by itself when nothing happens for too long."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: Event = json.loads(line)
            self.events.append(event)
            if event["event"] == kind and fits(event):
                return event
        raise AssertionError(f"no {kind!r} came, only {self.events[-3:]}")

    def stop(self) -> None:
        """Ask it to close its ports and end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(WAIT_S) == 0


@contextmanager
def home(folder: Path) -> Iterator[Home]:
    """A home that is torn down whatever happens."""
    built = Home(folder)
    try:
        built.build()
        yield built
    finally:
        built.remove()


@contextmanager
def guest(house: Home, where: str, script: str, *arguments: str) -> Iterator[Guest]:
    """A process that is killed when the test forgets it."""
    started = Guest(house, where, script, *arguments)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.process.wait()
        for pipe in (started.process.stdin, started.process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for another process, with a limit."""
    limit = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < limit, f"in vain: {what}"
        time.sleep(0.05)
