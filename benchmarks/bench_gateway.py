"""What a request costs at the gateway, with and without the node behind it, asked by a client in another process.

`/healthz` is the same app without the node, without a token and without the database; a job that does not exist is
refused after token and database, before the node; the job's status asks the node as well.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from typing import Final
from urllib.parse import urlsplit

import psutil

from benchmarks.bench_jobs import NOOP_JOB, NOOP_WASM
from benchmarks.network import Network, cpu_seconds
from benchmarks.report import Figure
from protocol.units import CREDIT
from shoal.client import Client
from shoal.commands.gateway import make_token
from shoal.devnet_layout import NETWORK, free_ports
from shoal.processes import Child, end_all, shoal_command, shoal_environment, until

REQUESTS: Final = 600
CONNECTIONS: Final = 4
"""Kept open and used at once: enough that the gateway never waits for its client."""

RUNS: Final = 5
MISSING: Final = "/v1/marketplace/jobs/job_" + "0" * 32


def measure(network: Network) -> list[Figure]:
    """A second gateway at the same node, with a rate limit out of reach."""
    shutil.copy(NOOP_WASM, network.folder / NOOP_WASM.name)
    data = network.folder / "gateway"
    token = make_token(data, "bench", ["renter"])
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    socket = str(network.devnet.folder / "steward" / "control.sock")
    words = ["--data", str(data), "--socket", socket, "--network-name", NETWORK, "--port", str(port)]
    command = shoal_command("gateway", "run", *words, "--rate-limit", "10000000")
    gateway = Child("gateway", command, data / "gateway.log", shoal_environment())
    try:
        with Client(url, token) as client:
            until("the gateway answers", lambda: _answers(url), [gateway], 60.0)
            client.deposit(10 * CREDIT, "bench")
            job = client.submit(_job_file(network)).job
        processes = network.processes()
        watched = {"gateway": psutil.Process(gateway.pid), "steward": processes["steward"]}
        return _figures(url, token, f"/v1/marketplace/jobs/{job}", watched)
    finally:
        end_all([gateway.pid])
        gateway.reap()


def _figures(url: str, token: str, status: str, watched: dict[str, psutil.Process]) -> list[Figure]:
    asked = (
        ("the app alone (/healthz)", "/healthz", 200),
        ("token, no node (404)", MISSING, 404),
        ("job status, asks the node", status, 200),
    )
    rates: dict[str, list[float]] = {}
    costs: dict[tuple[str, str], list[float]] = {}
    for _ in range(RUNS):
        for name, path, code in asked:
            before = cpu_seconds(watched)
            seconds = _client(url, token, path, code)
            after = cpu_seconds(watched)
            rates.setdefault(name, []).append(REQUESTS / seconds)
            for role in watched:
                costs.setdefault((name, role), []).append(1_000 * (after[role] - before[role]) / REQUESTS)
    figures = []
    base = costs[asked[0][0], "gateway"]
    for name, _, _ in asked:
        cost = costs[name, "gateway"]
        figures.append(Figure(f"gateway, {name}", "requests/s", tuple(rates[name]), None, f"{CONNECTIONS} connections"))
        figures.append(Figure("  cpu of it, gateway", "ms", tuple(cost)))
        if name != asked[0][0]:
            ratios = tuple(one / least for one, least in zip(cost, base, strict=True))
            figures.append(Figure("  cpu next to the app alone", "ratio", ratios))
    figures.append(Figure("  cpu of it, steward", "ms", tuple(costs[asked[-1][0], "steward"])))
    return figures


def _job_file(network: Network) -> str:
    path = network.folder / "asked.yml"
    path.write_text(f"type: task\nname: asked\n{NOOP_JOB}chunks: 1\n", encoding="utf-8")
    return str(path)


def _answers(url: str) -> bool | None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return True if connection.getresponse().status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


def _client(url: str, token: str, path: str, code: int) -> float:
    """Run the requests in a process of their own; the seconds they took."""
    words = [url, token, path, str(code), str(REQUESTS)]
    command = [sys.executable, "-m", "benchmarks.bench_gateway", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout))


def ask(url: str, token: str, path: str, code: int, count: int) -> float:
    """`count` GETs over kept connections, each answer read and its status checked; seconds."""
    parts = urlsplit(url)
    wrong: list[int] = []

    def worker() -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        for _ in range(count // CONNECTIONS):
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != code:
                wrong.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=worker) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if wrong:
        raise AssertionError(f"{path} answered {wrong[0]} instead of {code}")
    return took


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))))
