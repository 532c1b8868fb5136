"""What else moves a gigabyte between two processes: a TLS socket, a stock py-libp2p stream, iroh. See bench_bulk.py.

    bulk_rivals.py tls|stored|stock|iroh serve MIB          prints where it listens, then what receiving cost
    bulk_rivals.py tls|stored|stock|iroh send MIB WHERE     prints {"mb_per_s": …, "cpu_tx": seconds, "cpu_rx": seconds}

`stored` is `tls` whose receiver keeps and hashes what comes.
Sender and receiver use memory that is distinct in every page. iroh runs in an environment of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20
BLOCK = 1 * MIB
MEMORY = 256 * MIB
"""Memory that is gone through again and again: larger than every cache."""


def cpu_s() -> float:
    """Processor time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def certificate(folder: Path) -> Path:
    """A fresh self-signed certificate with its key."""
    path = folder / "pair.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-days",
        "2",
        "-nodes",
    ]
    files = ["-subj", "/CN=x", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run([*command, *files], check=True, stderr=subprocess.DEVNULL)
    with path.open("ab") as file:
        file.write(Path(f"{path}.crt").read_bytes())
    return path


def tls_serve(size: int, keeps: bool = False) -> None:
    """Blocking OpenSSL socket, TLS 1.3, reads of 1 MiB into distinct memory.

    With `keeps`, every MiB is hashed, hashed into the whole and written to a file in memory, as the data plane does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(certificate(Path(folder)))
    memory = memoryview(bytearray(MEMORY))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        connected = context.wrap_socket(listening.accept()[0], server_side=True)
        before, got, kept = cpu_s(), 0, 0
        from blake3 import blake3  # The environment of iroh has none.

        whole = blake3()
        with tempfile.TemporaryFile(dir="/dev/shm") as file:
            while got < size:
                at = got % MEMORY
                got += connected.recv_into(memory[at : at + BLOCK - got % BLOCK])
                if keeps and got - kept == BLOCK:
                    block = memory[kept % MEMORY : kept % MEMORY + BLOCK]
                    blake3(block).digest()
                    whole.update(block)
                    os.pwrite(file.fileno(), block, kept)
                    kept = got
        connected.sendall(json.dumps(cpu_s() - before).encode())
        connected.recv(1)


def tls_send(size: int, where: str) -> dict[str, float]:
    """The other side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    memory = memoryview(os.urandom(MEMORY))
    connected = context.wrap_socket(socket.create_connection(("127.0.0.1", int(where))))
    before, started = cpu_s(), time.perf_counter()
    for sent in range(0, size, BLOCK):
        connected.sendall(memory[sent % MEMORY : sent % MEMORY + BLOCK])
    rx = json.loads(connected.recv(64))
    seconds = time.perf_counter() - started
    return {"mb_per_s": size / seconds / 1e6, "cpu_tx": cpu_s() - before, "cpu_rx": rx}


def stock(role: str, size: int, where: str) -> None:
    """py-libp2p as it comes: TCP, Noise, its own yamux, writes of 1 MiB."""
    import trio
    from libp2p import new_host
    from libp2p.abc import INetStream
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.crypto.x25519 import create_new_key_pair as noise_pair
    from libp2p.custom_types import TProtocol
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from libp2p.security.noise.transport import PROTOCOL_ID, Transport
    from multiaddr import Multiaddr

    keys, name = create_new_key_pair(), TProtocol("/bulk/1")
    host = new_host(keys, sec_opt={PROTOCOL_ID: Transport(keys, noise_privkey=noise_pair().private_key)})

    async def sink(stream: INetStream) -> None:
        before, got = cpu_s(), 0
        while got < size:
            got += len(await stream.read(BLOCK))
        await stream.write(json.dumps(cpu_s() - before).encode())

    async def run() -> None:
        async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
            if role == "serve":
                host.set_stream_handler(name, sink)
                print(host.get_addrs()[0], flush=True)
                await trio.sleep_forever()
            await host.connect(info_from_p2p_addr(Multiaddr(where)))
            stream = await host.new_stream(host.get_connected_peers()[0], [name])
            data = os.urandom(BLOCK)
            before, started = cpu_s(), time.perf_counter()
            for _ in range(0, size, BLOCK):
                await stream.write(data)
            rx = json.loads(await stream.read(64))
            seconds = time.perf_counter() - started
            print(json.dumps({"mb_per_s": size / seconds / 1e6, "cpu_tx": cpu_s() - before, "cpu_rx": rx}), flush=True)
            os._exit(0)

    trio.run(run)


def iroh_run(role: str, size: int, where: str) -> None:
    """iroh's wheel; its binding copies bytes one by one (iroh-ffi issue 229), which is mended here."""
    import asyncio

    import iroh.iroh_ffi  # type: ignore[import-not-found]

    def write(self: object, value: bytes) -> None:
        with self._reserve(len(value)):  # type: ignore[attr-defined]
            buffer = self.rbuf  # type: ignore[attr-defined]
            ctypes.memmove(ctypes.addressof(buffer.data.contents) + buffer.len, bytes(value), len(value))

    iroh.iroh_ffi._UniffiRustBufferBuilder.write = write
    protocol = b"bulk/1"

    async def run() -> None:
        off = iroh.RelayMode.disabled()
        options = iroh.EndpointOptions(
            preset=iroh.preset_minimal(), alpns=[protocol], relay_mode=off, bind_addr="127.0.0.1:0"
        )
        endpoint = await iroh.Endpoint.bind(options)
        if role == "serve":
            print(json.dumps([str(endpoint.id()), endpoint.bound_sockets()]), flush=True)
            connection = await (await (await endpoint.accept_next()).accept()).connect()
            both = await connection.accept_bi()
            before, got = cpu_s(), 0
            while got < size:
                got += len(await both.recv().read(BLOCK))
            await both.send().write_all(json.dumps(cpu_s() - before).encode().ljust(64))
            await asyncio.sleep(30)
        peer, addresses = json.loads(where)
        to = iroh.EndpointAddr(iroh.EndpointId.from_string(peer), None, [a for a in addresses if a.startswith("127.")])
        both = await (await endpoint.connect(to, protocol)).open_bi()
        data = os.urandom(BLOCK)
        before, started = cpu_s(), time.perf_counter()
        for _ in range(0, size, BLOCK):
            await both.send().write_all(data)
        rx = json.loads(await both.recv().read_exact(64))
        seconds = time.perf_counter() - started
        print(json.dumps({"mb_per_s": size / seconds / 1e6, "cpu_tx": cpu_s() - before, "cpu_rx": rx}), flush=True)
        os._exit(0)

    asyncio.run(run())


def main() -> None:
    """Be one side of one rival."""
    kind, role, size = sys.argv[1], sys.argv[2], int(sys.argv[3]) * MIB
    where = sys.argv[4] if len(sys.argv) > 4 else ""
    others: dict[str, Callable[[str, int, str], None]] = {"stock": stock, "iroh": iroh_run}
    if kind in others:
        others[kind](role, size, where)
    elif role == "serve":
        tls_serve(size, keeps=kind == "stored")
    else:
        print(json.dumps(tls_send(size, where)), flush=True)


if __name__ == "__main__":
    main()
