"""A real OpenSSH client, through ProxyCommand, two libp2p hosts and a sandbox, to a real sshd."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
from libp2p.abc import IHost

from node import entropy
from node.addresses import AddressBook
from node.clock import Clock
from node.control import ControlServer, Plain, takeover, unary
from node.control_methods import JobParams, TunnelParams
from node.dialer import Dialer
from node.libp2p_rim import in_nursery, listen, make_host, protocol_id
from node.tunnels.client import OpenTunnel, TunnelClient
from node.tunnels.server import TunnelServer
from protocol.errors import Refused, RemoteViolation
from protocol.identity import Identity
from protocol.overlay.tunnel import Held, OpenPort
from protocol.units import PeerId
from shoal.processes import shoal_command, shoal_environment
from tests.node.executors.bench import IN_USER_NAMESPACE, Bench, BenchOf
from tests.node.waiting import SECONDS

JOB, NETWORK = bytes(16), "net"
STEWARD, PROVIDER = Identity(b"s" * 32), Identity(b"p" * 32)
SSHD = (
    "ssh-keygen -q -N '' -t ed25519 -f /tmp/key",
    "O='-o ListenAddress=127.0.0.1 -o HostKey=/tmp/key -o PidFile=none -o AuthorizedKeysFile=/in/authorized_keys'",
    "exec /usr/sbin/sshd -D -e -f /dev/null -p 2222 $O -o StrictModes=no -o UsePAM=no",
)


async def no_violation(violation: RemoteViolation) -> None:
    raise AssertionError(violation.rule)


@asynccontextmanager
async def hosted(identity: Identity) -> AsyncIterator[IHost]:
    host = make_host(identity, ["/ip4/127.0.0.1/tcp/0"], entropy.seed())
    async with AsyncExitStack() as stack:
        await listen(host, ["/ip4/127.0.0.1/tcp/0"], stack)
        yield host
        await host.close()


@asynccontextmanager
async def network(bench: Bench, ports: tuple[int, ...], socket: Path) -> AsyncIterator[None]:
    """A provider that serves the bench's task, and a node whose control socket opens tunnels to it."""
    clock, counts, book = Clock(), Counter[str](), AddressBook()
    spec = bench.spec("x").__class__("a", "python", ("x",), bench.spec("x").chunks, audit_ppm=0, ports=ports)

    def held(job: bytes, chunk: int) -> Held:
        return Held("job/0/1", JOB, 0, 1, STEWARD.peer, PeerId(b"r" * 32), spec, is_running=True)

    async with hosted(STEWARD) as mine, hosted(PROVIDER) as theirs, trio.open_nursery() as nursery:
        server = TunnelServer(NETWORK, nursery, held, bench.runner.door, clock.now, no_violation, counts)
        theirs.set_stream_handler(protocol_id(server.protocol), in_nursery(nursery, server.serve))
        book.learn(PROVIDER.peer, [str(address) for address in theirs.get_addrs()])
        dialer = Dialer(mine, book, random.Random(1))
        client = TunnelClient(NETWORK, dialer.open_stream, clock.now, no_violation, counts)

        async def tunnel(params: TunnelParams) -> tuple[Plain, OpenTunnel]:
            return {}, await client.open(PROVIDER.peer, OpenPort(JOB, 0, params.port))

        async def status(params: JobParams) -> Plain:
            return {"chunks": [{"index": 0, "state": "running"}]}

        table = {"tunnel.open": takeover(TunnelParams, tunnel), "job.status": unary(JobParams, status)}
        await nursery.start(ControlServer(socket, table).serve)
        with pytest.raises(Refused, match="declares no port 80"):
            await client.open(PROVIDER.peer, OpenPort(JOB, 0, 80))
        yield
        assert counts["tunnels_opened"] == 1
        await dialer.close()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("tier", [IN_USER_NAMESPACE])
async def test_openssh_reaches_an_sshd_in_the_sandbox(bench_of: BenchOf, tier: str, tmp_path: Path) -> None:
    if not (shutil.which("ssh") and shutil.which("sshd", path="/usr/sbin")):
        pytest.skip("needs openssh-client and openssh-server")
    key = tmp_path / "id"
    await trio.run_process(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", str(key)])
    bench = await bench_of(tier)
    spec = bench.spec(*SSHD, files={"authorized_keys": key.with_suffix(".pub").read_bytes()})
    proxy = " ".join(
        shoal_command("port-forward", "-q", "--stdio", "--data", str(tmp_path), f"job_{JOB.hex()}", "2222")
    )
    options = ["UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=no", "LogLevel=ERROR", f"ProxyCommand={proxy}"]
    command = ["ssh", "-F", "none", "-i", str(key), *(word for text in options for word in ("-o", text))]
    async with trio.open_nursery() as nursery, network(bench, (2222,), tmp_path / "control.sock"):
        nursery.start_soon(bench.run, spec)
        with trio.fail_after(SECONDS):
            await bench.talked.wait()
            ended = await trio.run_process(
                [*command, "job@chunk", "cat; hostname; exit 9"], stdin=b"x" * 100_000, env=shoal_environment(),
                capture_stdout=True, capture_stderr=True, check=False,
            )  # fmt: skip
        bench.runner.stop("job/0/1")
    assert (ended.returncode, ended.stdout) == (9, b"x" * 100_000 + b"job\n"), (ended, bench.lines)
    assert isinstance(ended, subprocess.CompletedProcess)
