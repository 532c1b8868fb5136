"""The ground of the attacks: the node that is attacked, the honest peer that measures, the attacker; each a process."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from node.blobs import BlobStore
from node.control_client import ControlClient
from protocol.errors import ShoalError
from protocol.genesis import Genesis
from protocol.identity import Identity
from shoal.processes import Child, end_all, shoal_environment, until
from tests.attacks.victim import CELLS

HERE: Final = Path(__file__).parent
NETWORK: Final = "reef"
PATIENCE_S: Final = 60.0
IS_LONG: Final = os.environ.get("SHOAL_LONG") == "1"
"""Floods last a minute, silence is waited out."""

PROBE_S: Final = 0.25
"""Between two questions of the honest peer."""

BLOB: Final = bytes(range(256)) * 4_096
"""A megabyte that the victim holds."""

Report = dict[str, float]
"""What an attacker saw, by name; counts and truths are numbers too."""


@dataclass(frozen=True)
class Figures:
    """How the victim and the honest peer fared during one attack."""

    waits: tuple[float, ...]
    """Seconds of every attempt of the honest peer."""
    errors: tuple[str, ...]
    rss_mib: float
    """The most."""
    turn_ms: float
    """The longest turn of the victim's loop: as long nothing else got its turn."""
    settle_s: float = 0.0
    """From the end of the attack until everything was given back; negative: not within the time."""
    left: str = ""

    @property
    def median_ms(self) -> float:
        return statistics.median(self.waits) * 1000

    @property
    def worst_ms(self) -> float:
        return max(self.waits) * 1000


class Talker:
    """A child that prints lines, which a thread collects; and takes lines, when it listens."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.lines: list[str] = []
        self._grown = threading.Condition()
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=shoal_environment(SHOAL_LONG="1" if IS_LONG else "0"),
            start_new_session=True,
            text=True,
        )
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._grown:
                self.lines.append(line.strip())
                self._grown.notify_all()

    def wait_for(self, count: int, seconds: float) -> bool:
        """True when there are so many lines, in time."""
        with self._grown:
            return self._grown.wait_for(lambda: len(self.lines) >= count, seconds)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        for stream in (self.process.stdin, self.process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


@dataclass
class Victim:
    """The attacked node, and a look at it from outside."""

    child: Child
    data: Path
    census: mmap.mmap
    peer: str = ""
    host: str = ""
    port: int = 0
    data_port: int = 0
    _process: psutil.Process = field(init=False)

    def __post_init__(self) -> None:
        self._process = psutil.Process(self.child.pid)

    @property
    def address(self) -> str:
        return f"/ip4/{self.host}/tcp/{self.port}/p2p/{self.peer}"

    @property
    def rss_mib(self) -> float:
        return float(self._process.memory_info().rss) / (1 << 20)

    @property
    def fds(self) -> int:
        return int(self._process.num_fds())

    @property
    def tasks(self) -> int:
        return int(CELLS.unpack_from(self.census)[0])

    @property
    def turn_ms(self) -> float:
        return float(CELLS.unpack_from(self.census)[1]) / 1000

    @property
    def work_s(self) -> float:
        return float(CELLS.unpack_from(self.census)[2]) / 1e6

    def reset_turn(self) -> None:
        tasks, _, work = CELLS.unpack_from(self.census)
        CELLS.pack_into(self.census, 0, tasks, 0, work)

    def status(self) -> dict[str, object]:
        """`network.status`, asked as `shoal doctor` asks it."""
        with ControlClient(self.data / "control.sock") as client:
            return client.call("network.status")

    def count(self, name: str) -> int:
        """One of its counters."""
        counts = self.status()["counts"]
        assert isinstance(counts, dict)
        return int(counts.get(name, 0))

    def locate(self) -> None:
        """Where it listens."""
        addresses = self.status()["addresses"]
        assert isinstance(addresses, list)
        _, _, self.host, _, port, _, self.peer = str(addresses[0]).split("/")
        self.port = int(port)
        listening = {one.laddr.port for one in self._process.net_connections("tcp4") if one.status == "LISTEN"}
        (self.data_port,) = listening - {self.port}


def start_victim(folder: Path, *flags: str, host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> Victim:
    """A node of its own network, up and located; it says itself where it is, so that it relays for others."""
    listen = f"/ip4/{host}/tcp/{free_port()}"
    data, census = folder / "victim", folder / "census"
    data.mkdir(mode=0o700)
    genesis = Genesis(NETWORK, 0, ((Identity(bytes(32)).peer, 1),), ())
    (data / "genesis.json").write_text(genesis.to_json())
    BlobStore(data / "blobs", 1 << 30).put(BLOB)
    still = ("--mdns", "off", "--port-mapping", "off", "--executors", "wasm", "--roles", "steward")
    words = ("node", "run", "--data", str(data), "--listen", listen, "--announce", listen, *still, *flags)
    command = (*prefix, sys.executable, str(HERE / "victim.py"), str(census), *words)
    child = Child("victim", command, folder / "victim.log", shoal_environment())

    def is_up() -> bool | None:
        with contextlib.suppress(ShoalError), ControlClient(data / "control.sock") as client:
            client.call("network.status")
            return True
        return None

    try:
        until("the victim is up", is_up, [child], PATIENCE_S)
        with census.open("r+b") as file:
            victim = Victim(child, data, mmap.mmap(file.fileno(), CELLS.size))
        victim.locate()
    except BaseException:
        end_all([child.pid])
        child.reap()
        raise
    return victim


@dataclass
class Ground:
    """Everything that runs, and what it was like before the first attack."""

    folder: Path
    victim: Victim
    honest: Talker
    attacker: Talker = field(init=False)
    fds: int = 0
    tasks: int = 0
    table: dict[str, tuple[Figures, Report]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.attacker = self._new_attacker()
        self.fds, self.tasks = self.victim.fds, self.victim.tasks

    def _new_attacker(self) -> Talker:
        words = (sys.executable, str(HERE / "attacker.py"), NETWORK, self.victim.address, str(self.victim.data_port))
        return Talker(words, self.folder / "attacker.log")

    def attack(self, name: str, seconds: float) -> tuple[Figures, Report]:
        """Let the attacker work, look at the others meanwhile, wait until what it took is given back."""
        assert self.attacker.wait_for(1, PATIENCE_S), (self.folder / "attacker.log").read_text()[-2_000:]
        first, answers = len(self.honest.lines), len(self.attacker.lines)
        self.victim.reset_turn()
        self.attacker.say(json.dumps({"attack": name, "seconds": seconds}))
        rss = self.victim.rss_mib
        while not self.attacker.wait_for(answers + 1, 0.05):
            if self.attacker.process.poll() is not None:
                self.attacker.end()
                self.attacker = self._new_attacker()
                raise AssertionError((self.folder / "attacker.log").read_text()[-2_000:])
            self.victim.child.require_alive()
            rss = max(rss, self.victim.rss_mib)
        self.honest.wait_for(max(len(self.honest.lines), first) + 1, PATIENCE_S)
        rss = max(rss, self.victim.rss_mib)
        turn = self.victim.turn_ms
        settle, left = self.settle(PATIENCE_S)
        tries = [json.loads(line) for line in self.honest.lines[first:]]
        waits, errors = tuple(one["seconds"] for one in tries), tuple(one["error"] for one in tries if one["error"])
        report: Report = json.loads(self.attacker.lines[answers])
        figures = Figures(waits, errors, rss, turn, settle, left)
        self.table[name] = figures, report
        return figures, report

    def settle(self, seconds: float) -> tuple[float, str]:
        """Wait until descriptors and tasks are nearly as few as before; (how long, or -1; what is left)."""
        started = time.monotonic()
        left = ""
        while time.monotonic() - started < seconds:
            fds, tasks = self.victim.fds - self.fds, self.victim.tasks - self.tasks
            left = f"{fds} descriptors and {tasks} tasks more than before"
            if fds <= 8 and tasks <= 40:
                return time.monotonic() - started, ""
            time.sleep(0.05)
        return -1.0, left


def free_port() -> int:
    """A TCP port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Ground]:
    """A victim, an honest peer that measures all the time, an attacker that waits for its orders."""
    victim = start_victim(folder)
    words = (sys.executable, str(HERE / "honest.py"), str(folder / "honest"), NETWORK, victim.address, str(PROBE_S))
    honest = Talker(words, folder / "honest.log")
    ground: Ground | None = None
    try:
        assert honest.wait_for(4, PATIENCE_S), (folder / "honest.log").read_text()[-2_000:]
        ground = Ground(folder, victim, honest)
        yield ground
    finally:
        for talker in (honest,) if ground is None else (honest, ground.attacker):
            talker.end()
        end_all([victim.child.pid])
        victim.child.reap()
