"""Nothing gets out: the probes of probes.py in every isolating tier that this host can use."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from node.executors.docker_engine import socket_path
from tests.node.executors.bench import IN_USER_NAMESPACE, BenchOf

PROBES = Path(__file__).with_name("probes.py").read_bytes()
PROBES_MIN = 80
"""So that a table that shrinks by accident is noticed."""

ENGINE_LEAVES = {"io_uring_setup"}
"""Docker's own filter lets this through before engine 25; it opens no way out by itself."""


@pytest.mark.parametrize(
    "tier",
    [
        pytest.param("docker", marks=pytest.mark.container),
        pytest.param("runc", marks=pytest.mark.container),
        "bwrap",
        IN_USER_NAMESPACE,
    ],
)
async def test_no_probe_gets_out(tier: str, bench_of: BenchOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await bench_of(tier)
    mark = f"mark-{os.getpid()}"
    monkeypatch.setenv("PROBE_HOST", f"{mark}-secret")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{mark}")
        abstract.listen()
        env = {
            "PROBE_MARK": mark,
            "PROBE_SECRET_FILE": str(secret),
            "PROBE_BLOBS": str(bench.folder / "blobs"),
            "PROBE_PORT": str(server.getsockname()[1]),
            "PROBE_ABSTRACT": mark,
            "PROBE_PID": str(os.getpid()),
            "PROBE_PIDS": "64",
            "PROBE_TMP": str(64 << 20),
            "PROBE_DISK": str(8 << 20),
            "PROBE_ENGINE": socket_path(),
        }
        done = await bench.run(bench.spec("python -I probes.py", files={"probes.py": PROBES}, env=env))
    probed = [line for line in bench.lines if line.startswith(("held ", "BROKE "))]
    excused = ENGINE_LEAVES if tier == "docker" else set()
    broken = [line for line in probed if line.startswith("BROKE ") and line.split()[1] not in excused]
    assert not broken
    assert f"probed {len(probed)}" in bench.lines, (done, bench.lines[-5:])
    assert len(probed) >= PROBES_MIN
    assert done.reason == "ok", done
