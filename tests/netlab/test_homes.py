"""Steward and provider both behind routers: tunnels, shells, large inputs, and relays that die under a job."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.netlab import faults, ground
from benchmarks.netlab.laboratory import Laboratory
from benchmarks.netlab.routers import Kind
from benchmarks.netlab.shaper import Flow, both
from benchmarks.netlab.trials import JOB, WAN
from benchmarks.netlab.village import Village, Way
from node.clock import Clock
from node.links import WAIT_S
from protocol.units import MIB, SECOND
from shoal.processes import shoal_command, shoal_environment, until
from tests.end_to_end import service

pytestmark = pytest.mark.netlab

PATIENCE_S = 180.0
PORT = 8888
SERVE = f"""\
type: task
name: serve
files: [service.py]
commands: [python service.py {PORT}]
ports: [{PORT}]
shell: true
timeout: 5m
estimate: 5s
"""
WEIGH = """\
type: task
name: weigh
files: [input.bin]
commands: [wc -c < /in/input.bin > /out/size]
timeout: 5m
estimate: 5s
"""
INPUT_BYTES = 20 * MIB
PAIRS: dict[Way, tuple[Kind, Kind]] = {
    "punched": ("port-restricted", "remapping"),
    "relayed": ("symmetric", "symmetric"),
}


@pytest.fixture(scope="module", params=PAIRS)
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


@pytest.fixture(scope="module")
def village(way: Way, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    """The steward with its gateway in one home, the only provider in another; two public nodes see and relay them."""
    if why := ground.missing():
        pytest.skip(why)
    with Laboratory() as lab:
        ours, theirs = PAIRS[way]
        lab.house("steward", ours, link=WAN)
        made = Village(lab, tmp_path_factory.mktemp("homes") / "net", lambda text: None)
        made.settle(lab.house("home", theirs, link=WAN).host)
        made.settle(lab.house("neighbour", "public").host, is_provider=False)
        made.up()
        try:
            until(f"the pair is {way}", lambda: (made.ways("steward") or {}).get("home") == way or None, [], 90)
            yield made
        finally:
            made.down()


@pytest.fixture
def serving(village: Village, tmp_path: Path) -> Iterator[str]:
    """A job that serves HTTP until it is cancelled."""
    shutil.copy(service.__file__, tmp_path / "service.py")
    (tmp_path / "serve.yml").write_text(SERVE, encoding="utf-8")
    job = village.submit(tmp_path / "serve.yml")

    def listens() -> bool | None:
        with village.client() as client:
            return any(line.line == "listening" for line in client.logs(job, follow=False)) or None

    until("the service listens", listens, [], PATIENCE_S)
    yield job
    with village.client() as client:
        client.cancel(job)


@contextmanager
def forwarded(village: Village, job: str) -> Iterator[str]:
    """`shoal port-forward` on the renter's own node: the local address, on the steward's host."""
    data = str(village.folder / "steward")
    command = shoal_command("port-forward", "--json", "--data", data, job, f"0:{PORT}")
    with village.host("steward").entered():
        process = subprocess.Popen(command, env=shoal_environment(), stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['local']}"
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130


def test_ten_mebibytes_come_through_a_tunnel(village: Village, serving: str, way: Way) -> None:
    clock = Clock()
    with forwarded(village, serving) as url, village.host("steward").entered():
        began = clock.now()
        with urllib.request.urlopen(f"{url}/content", timeout=120) as answer:
            assert answer.read() == service.CONTENT
        seconds = (clock.now() - began) / SECOND
        print(f"{way}: {len(service.CONTENT) / MIB / seconds:.1f} MiB/s through the tunnel")
        with urllib.request.urlopen(f"{url}/echo", service.CONTENT[:MIB], timeout=120) as answer:
            assert answer.read() == service.CONTENT[:MIB]
    assert village.ways("steward") is not None


def test_a_shell_runs_a_command(village: Village, serving: str) -> None:
    data = str(village.folder / "steward")
    command = shoal_command("ssh", "--data", data, serving, "--", "cat; ls /in; exit 7")
    with village.host("steward").entered():
        ended = subprocess.run(command, env=shoal_environment(), input=b"typed\n", capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (7, b"typed\nservice.py\n"), ended.stderr


@pytest.mark.parametrize("line", ["good", "30 % loss", "MTU 576"])
def test_a_large_input_arrives_while_heartbeats_go_on(village: Village, tmp_path: Path, way: Way, line: str) -> None:
    house, clock = village.host("home").house, Clock()
    size = INPUT_BYTES if line == "good" else MIB
    content = bytes(range(1, 252)) * (size // 251 + 1)
    (tmp_path / "input.bin").write_bytes(line.encode() + content[: size - len(line)])
    (tmp_path / "weigh.yml").write_text(WEIGH, encoding="utf-8")
    before = village.network("steward").counts
    if line == "30 % loss":
        faults.shape(house, both(Flow(delay_ms=10, jitter_ms=2, loss=0.3), seed=30))
    elif line == "MTU 576":
        faults.narrow(house, 576)
    try:
        began = clock.now()
        status = village.settled(village.submit(tmp_path / "weigh.yml"), PATIENCE_S)
        seconds = (clock.now() - began) / SECOND
    finally:
        faults.shape(house, WAN)
        faults.narrow(house, 1_500)
    print(f"{way}, {line}: {size / MIB:g} MiB of input, settled after {seconds:.1f} s")
    assert [len(chunk.attempts) for chunk in status.chunks] == [1], "no heartbeat was missed"
    after = village.network("steward").counts
    assert after.get("violations", 0) == before.get("violations", 0)


@pytest.mark.parametrize("seconds", [30, 150])
def test_a_sleeper_is_connected_again(village: Village, tmp_path: Path, way: Way, seconds: int) -> None:
    (tmp_path / "input.bin").write_bytes(f"{way} {seconds}".encode())
    (tmp_path / "weigh.yml").write_text(WEIGH, encoding="utf-8")
    before, clock = village.network("home").counts, Clock()
    with village.asleep("home"):
        time.sleep(seconds)
    woke = clock.now()
    until("the pair is connected", lambda: "steward" in (village.ways("home") or {}) or None, [], 90)
    until("it is free for work", lambda: village.is_whole() or None, [], 90)
    free = (clock.now() - woke) / SECOND
    village.settled(village.submit(tmp_path / "weigh.yml"), PATIENCE_S)
    done = (clock.now() - woke) / SECOND
    found = (village.ways("steward") or {}).get("home")
    assert found in (way, "relayed"), (
        "a relay carries at once, whatever the routers still remember of the old connection"
    )
    print(f"{way}, asleep for {seconds} s: free after {free:.1f} s, a job done after {done:.1f}, then {found}")
    after = village.network("home").counts
    if seconds < WAIT_S:
        assert after.get("messages_missed", 0) == before.get("messages_missed", 0), "what was queued arrived"
    assert after.get("violations", 0) == before.get("violations", 0)
    assert village.network("steward").counts.get("violations", 0) == 0


@pytest.fixture
def relayed(lab: Laboratory, make_village: Callable[[], Village]) -> Village:
    """Steward and one provider behind symmetric routers, the validator at home too; two public nodes relay."""
    lab.house("steward", "symmetric", link=WAN)
    lab.house("validator", "port-restricted", link=WAN)
    village = make_village()
    village.settle(lab.house("home", "symmetric", link=WAN).host)
    for name in ("relay-a", "relay-b"):
        village.settle(lab.house(name, "public", link=WAN).host, is_provider=False)
    village.up()
    return village


def test_the_relay_of_a_job_dies_and_another_takes_over(relayed: Village) -> None:
    village, clock = relayed, Clock()

    def carrier() -> str | None:
        return village.relay_between("steward", "home")

    used = until("the pair has a relay", carrier, [], 60)
    until("both have two relays", lambda: len(village.network("home").relays) == 2 or None, [], 60)
    job = village.submit(JOB)
    assert village.running(job, "home", PATIENCE_S) is not None
    used = until("the pair has a relay", carrier, [], 60)
    other = {"relay-a": "relay-b", "relay-b": "relay-a"}[used]
    village.kill(used)
    killed = clock.now()
    until("the other relay carries", lambda: carrier() == other or None, [], 60)
    print(f"fail-over to the other relay after {(clock.now() - killed) / SECOND:.1f} s")
    status = village.settled(job, PATIENCE_S)
    print(f"attempts lost: {sum(len(chunk.attempts) - 1 for chunk in status.chunks)}")

    village.kill(other)
    killed = clock.now()
    until("nothing carries", lambda: carrier() is None or None, [], 60)
    print(f"the loss of all relays is noticed after {(clock.now() - killed) / SECOND:.1f} s")
    village.restart(other)
    back = clock.now()
    until("the pair is connected again", lambda: carrier() == other or None, [], 90)
    print(f"connected again {(clock.now() - back) / SECOND:.1f} s after one relay is back")
