"""A gateway served over real HTTP in front of a control socket that speaks the node's frames over the network model.

Both run on one loop in a thread; tests move the network with `act`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Final, Self, TypeVar

import httpx
import msgspec

from gateway import accounts, database, serve
from gateway.app import build_app
from gateway.config import GatewayConfig
from gateway.state import JobReader, build_gateway
from protocol.errors import Refused, Unavailable
from tests.gateway.network_model import Network, Plain

T = TypeVar("T")
PATIENCE_S: Final = 60.0
"""For what takes milliseconds on a machine that does nothing else."""
CERTIFICATES: Final = httpx.create_ssl_context()
"""Read once: a client reads all certificates of the machine, even to speak plain HTTP."""


async def opened_units(network: Network, params: Plain) -> AsyncIterator[Plain]:
    """`job.units` of a job: refused until something was judged, then a small file in two pieces."""
    decided = (await network.answer("job.evidence", params))["decisions"]
    if not decided:
        raise Refused("the job has no escrow yet", code="not_ready")
    for piece in (b"\0\0", b"\0\1units"):
        yield {"data": piece}


class ControlSocket:
    """The frames of the contract around a network: length, MessagePack, requests side by side, streams, cancel."""

    def __init__(self, network: Network, path: Path) -> None:
        self.network = network
        self.path = path
        self.server: asyncio.Server | None = None
        self.writers: set[asyncio.StreamWriter] = set()
        self.failures: list[BaseException] = []
        self.tunnels: list[Plain] = []
        """Parameters of every tunnel that was asked for."""

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in list(self.writers):
            writer.close()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks: dict[int, asyncio.Task[None]] = {}
        self.writers.add(writer)
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                frame = msgspec.msgpack.decode(await reader.readexactly(size))
                if frame.get("cancel"):
                    if frame["id"] in tasks:
                        tasks.pop(frame["id"]).cancel()
                    continue
                if frame["method"] == "tunnel.open":
                    await self._tunnel(frame["id"], frame["params"], reader, writer)
                    return
                tasks[frame["id"]] = asyncio.create_task(self._one(frame, writer))
                tasks[frame["id"]].add_done_callback(self._note)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            self.writers.discard(writer)
            writer.close()

    async def _tunnel(
        self, number: int, params: Plain, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Port 8888 sends everything back, any other one is not declared."""
        self.tunnels.append(params)
        if params.get("port") != 8888:
            error: Plain = {"detail": "no", "code": "port_not_declared", "fix": "Do.", "fault": "caller"}
            await self._send(writer, {"id": number, "error": {**error, "numbers": {"port": 1}}})
            return
        await self._send(writer, {"id": number, "result": {}})
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()

    def _note(self, task: asyncio.Task[None]) -> None:
        """A failure of the model itself fails the test that runs on it, not only its request."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    async def _one(self, frame: Plain, writer: asyncio.StreamWriter) -> None:
        method, params = str(frame["method"]), frame["params"]
        assert isinstance(params, dict)
        try:
            if method in ("job.logs", "job.units", "node.events"):
                is_file = method == "job.units"
                items = opened_units(self.network, params) if is_file else self.network.stream(method, params)
                async for item in items:
                    await self._send(writer, {"id": frame["id"], "item": item})
                await self._send(writer, {"id": frame["id"], "end": True})
                return
            await self._send(writer, {"id": frame["id"], "result": await self.network.answer(method, params)})
        except (Refused, Unavailable) as error:
            body = {
                "code": error.code,
                "detail": error.detail,
                "fix": error.fix,
                "fault": "caller" if isinstance(error, Refused) else "unavailable",
                "numbers": error.numbers if isinstance(error, Refused) else {},
            }
            await self._send(writer, {"id": frame["id"], "error": body})

    async def _send(self, writer: asyncio.StreamWriter, frame: Plain) -> None:
        body = msgspec.msgpack.encode(frame)
        writer.write(len(body).to_bytes(4, "big") + body)
        with contextlib.suppress(ConnectionError):
            await writer.drain()


class Site:
    """A served gateway and the network behind it."""

    def __init__(
        self,
        folder: Path,
        requests_per_minute: int = 100_000,
        anonymous_per_minute: int = 100_000,
        blob_bytes_max: int = 1 << 30,
        node_grace_s: float = 2.0,
    ) -> None:
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self.read_job: JobReader | None = None
        self.tokens: dict[tuple[str, tuple[str, ...]], str] = {}
        self.clients: list[httpx.Client] = []
        self.config = GatewayConfig(
            socket=folder / "control.sock",
            data=folder / "gateway",
            network="testnet",
            port=0,
            requests_per_minute=requests_per_minute,
            anonymous_per_minute=anonymous_per_minute,
            blob_bytes_max=blob_bytes_max,
            node_grace_s=node_grace_s,
        )
        self.listener = serve.listen(self.config)
        database.migrate(self.config.database)
        self.url = serve.url_of(self.listener)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self.network = Network()
        self.control = ControlSocket(self.network, self.config.socket)
        self.stop = asyncio.Event()
        await self.control.start()
        self.gateway = build_gateway(self.config, self.read_job)
        self.app = build_app(self.gateway)
        serving = asyncio.create_task(serve.serve_until(self.gateway, self.app, self.stop, self.listener))
        self._ready.set()
        await serving
        await self.control.stop()

    def act(self, move: Callable[[Network], T]) -> T:
        """Run a move on the network, on its own loop."""
        done: Future[T] = Future()
        self.loop.call_soon_threadsafe(lambda: done.set_result(move(self.network)))
        return done.result(PATIENCE_S)

    def do(self, step: Callable[[], Coroutine[object, object, T]]) -> T:
        """Run a coroutine function on the site's loop."""
        return asyncio.run_coroutine_threadsafe(step(), self.loop).result(PATIENCE_S)

    def token(self, name: str = "anna", *scopes: str) -> str:
        """The token of an account with these scopes, made on first use."""
        wanted = (name, scopes or ("renter",))
        if wanted not in self.tokens:
            self.tokens[wanted] = accounts.create_token(self.config.database, *wanted)
        return self.tokens[wanted]

    def client(self, token: str = "") -> httpx.Client:
        """An HTTP client of the gateway."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S, verify=CERTIFICATES)
        self.clients.append(client)
        return client

    def __enter__(self) -> Self:
        self.thread.start()
        assert self._ready.wait(PATIENCE_S)
        with self.client() as client:
            assert client.get("/readyz").status_code == 200
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.close()
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        self.loop.close()
        self.listener.close()
        assert not self.control.failures, self.control.failures
