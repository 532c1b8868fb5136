"""Witnesses over real connections: they dial back only where the asker speaks from, and sign what they found."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from node.addresses import without_target
from node.blobs import BlobStore
from node.clock import Clock
from node.reach.dial_back import DialBackServer, endpoints_of
from node.reach.knock import knock
from node.reach.sockets import local_port
from node.transport import Transport, TransportConfig
from protocol.errors import Refused
from protocol.identity import Identity
from protocol.overlay.dial_budget import PER_ASKER
from protocol.overlay.endpoint import Endpoint, endpoint
from protocol.overlay.verdicts import KIND, DialBack, Outcome, dialled_back_decoder, judge, open_verdict
from protocol.units import GIB
from tests.node.waiting import SECONDS

ASKER = Identity(b"a" * 32)
NAMES = [Identity(bytes([number]) * 32) for number in range(1, 4)]
NONCE = b"n" * 16


@dataclass
class Peer:
    """A node that listens on loopback."""

    transport: Transport
    identity: Identity
    server: DialBackServer

    @property
    def address(self) -> str:
        return without_target(self.transport.addresses()[0])


@asynccontextmanager
async def peers(folder: Path, *names: Identity) -> AsyncIterator[list[Peer]]:
    """The n-th listens on 127.<n>.0.1, another subnet each; the first, on 127.0.0.1, speaks from where it listens."""
    async with AsyncExitStack() as stack:
        found = []
        for number, identity in enumerate(names):
            config = TransportConfig(listen=(f"/ip4/127.{number}.0.1/tcp/0",), neighbours_min=0)
            transport = Transport(identity, "reef", config, BlobStore(folder / str(number), GIB))
            await stack.enter_async_context(transport.serving())
            parts = transport._serving
            server = DialBackServer(identity, "reef", parts.dialer, Clock(), Counter())
            found.append(Peer(transport, identity, server))
        yield found


async def meet(asker: Peer, *others: Peer) -> None:
    """Connected, and up."""
    for other in others:
        asker.transport.learn(other.identity.peer, [other.address])
        await asker.transport._serving.dialer.connect(other.identity.peer)


async def ask(asker: Peer, witness: Peer, *addresses: str) -> dict[str, Outcome]:
    question = DialBack(NONCE, addresses)
    requests = asker.transport._serving.core.requests
    reply = await requests.ask(witness.identity.peer, KIND, question, dialled_back_decoder)
    verdicts = [open_verdict(statement, "reef", witness.identity.peer) for statement in reply.verdicts]
    assert all((one.subject, one.nonce) == (asker.identity.peer, NONCE) for one in verdicts)
    return {one.address: one.outcome for one in verdicts}


def seen_ip(witness: Peer, asker: Peer) -> str:
    """From which address the asker speaks, as the witness sees it."""
    return endpoints_of(witness.transport._serving.dialer, asker.identity.peer)[0].ip


async def test_every_outcome(tmp_path: Path) -> None:
    async with peers(tmp_path, ASKER, *NAMES[:2]) as (asker, witness, stranger):
        await meet(asker, witness)
        ip = seen_ip(witness, asker)
        own = endpoint(asker.address)
        other = endpoint(stranger.address)
        assert own is not None and other is not None
        with socket.create_server((ip, 0)) as mute, socket.socket() as closed:
            closed.bind((ip, 0))
            targets = {
                Endpoint(ip, closed.getsockname()[1]).text: "refused",
                Endpoint(ip, mute.getsockname()[1]).text: "no_handshake",
            }
            assert await ask(asker, witness, *targets) == targets
        assert own.ip == ip
        assert await ask(asker, witness, own.text) == {own.text: "reachable"}
        assert await knock(other.ip, other.port, asker.identity.peer) == "other_key"


async def test_nobody_is_dialled_but_who_asks(tmp_path: Path) -> None:
    """An address elsewhere, a name, nonsense: no verdict, and no connection is made."""
    async with peers(tmp_path, ASKER, NAMES[0]) as (asker, witness):
        await meet(asker, witness)
        with socket.create_server(("127.9.9.9", 0)) as victim:
            victim.setblocking(False)
            elsewhere = f"/ip4/127.9.9.9/tcp/{victim.getsockname()[1]}"
            assert await ask(asker, witness, elsewhere, "/dns4/localhost/tcp/1", "rubbish") == {}
            with pytest.raises(BlockingIOError):
                victim.accept()


async def test_the_budget_ends(tmp_path: Path) -> None:
    async with peers(tmp_path, ASKER, NAMES[0]) as (asker, witness):
        await meet(asker, witness)
        ip = seen_ip(witness, asker)
        with socket.socket() as closed:
            closed.bind((ip, 0))
            text = Endpoint(ip, closed.getsockname()[1]).text
            for _ in range(PER_ASKER.burst):
                assert await ask(asker, witness, text) == {text: "refused"}
            with pytest.raises(Refused) as caught:
                await ask(asker, witness, text)
        assert caught.value.code == "dial_budget"


async def test_who_is_not_connected_directly_is_refused(tmp_path: Path) -> None:
    async with peers(tmp_path, NAMES[0]) as (witness,):
        with pytest.raises(Refused) as caught:
            await witness.server.answer(ASKER.peer, DialBack(NONCE, ("/ip4/127.0.0.1/tcp/1",)))
        assert caught.value.code == "no_direct_connection"


async def test_three_random_peers_sign_that_we_are_public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way: candidates, questions, dials, signatures, the verdict, and evidence that others can check."""
    monkeypatch.setattr("node.reach.outlook.is_global", lambda ip: True)
    async with peers(tmp_path, ASKER, *NAMES) as (asker, *witnesses):
        await meet(asker, *witnesses)
        own = endpoint(asker.address)
        assert own is not None
        assert asker.transport.overlay is not None
        outlook = asker.transport.overlay.outlook
        machine = outlook.witnesses.machine
        with trio.fail_after(SECONDS):
            while machine.asked < 3:
                await outlook.witnesses.settled.wait()
        assert (machine.state, machine.public) == ("public", (own.text,))
        assert outlook.external_addresses() == (own.text,)
        statements = [word.statement for word in machine.words]
        tallies = judge(ASKER.peer, statements, "reef", Clock().now(), ASKER.peer)
        assert [(tally.address, set(tally.said_yes), tally.said_no) for tally in tallies] == [
            (own.text, {one.peer for one in NAMES}, ())
        ]
        status = outlook.status()
        assert isinstance(status["reachability"], dict)
        assert status["reachability"]["asked"] == 3
        outlook.twin_seen("/ip4/66.6.6.6/tcp/1")
        assert outlook.status()["twins"] == ["/ip4/66.6.6.6/tcp/1"]


async def test_a_hello_tells_how_we_are_seen(tmp_path: Path) -> None:
    """The local port is found below all layers of a real connection, dialled or accepted."""
    async with peers(tmp_path, ASKER, NAMES[0]) as (asker, witness):
        await meet(asker, witness)
        for one, other in ((asker, witness), (witness, asker)):
            (connection,) = one.transport._serving.dialer._connections(other.identity.peer)
            port = local_port(connection.muxed_conn)
            own = endpoint(one.address)
            assert own is not None
            (end,) = endpoints_of(other.transport._serving.dialer, one.identity.peer)
            assert port == end.port
            assert (port == own.port) is (one is witness)
        assert local_port(object()) == 0
