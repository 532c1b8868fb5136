"""A whole node with `drand_url`: it asks the relay that its owner named, and its beacons get what came."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import trio

from node import drand, run
from node.assembly import Assembly, assemble
from node.clock import Clock
from node.config import Config, Role
from node.drand import QUICKNET, Round
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.units import SECOND
from tests.node.test_drand import Reply, http, latest, relay
from tests.node.waiting import SECONDS, happens

KEY = Identity(b"\x07" * 32)
NETWORK = "drandtest"


def newest() -> Round:
    """As a relay would give it now, under a key that is nobody's: without `py_ecc` that is not told apart."""
    number = QUICKNET.round_at(Clock().now())
    signature = hashlib.sha384(number.to_bytes(8, "big")).digest()
    return Round(number, hashlib.sha256(signature).hexdigest(), signature.hex())


def config(data: Path, url: str, role: Role = "validator") -> Config:
    return Config(
        data=data, network=NETWORK, roles=(role,), listen=("/ip4/127.0.0.1/tcp/0",), executors=("wasm",), slots=0,
        mdns=False, port_mapping=False, relay=False, drand_url=url,
    )  # fmt: skip


def genesis_of(validator: Identity) -> Genesis:
    return Genesis(NETWORK, Clock().now() // SECOND * SECOND, ((validator.peer, 1),), ())


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Assembly]:
    """What the node is put together of, once it is."""
    nodes: list[Assembly] = []

    async def kept(*parts: object) -> Assembly:
        nodes.append(await assemble(*parts))  # type: ignore[arg-type]
        return nodes[-1]

    monkeypatch.setattr(run, "assemble", kept)
    monkeypatch.setattr(drand, "can_verify", lambda: False)
    return nodes


async def test_a_validator_mixes_in_what_its_relay_gives(made: list[Assembly], tmp_path: Path) -> None:
    found = newest()
    async with relay(latest(found)) as server, trio.open_nursery() as nursery:
        nursery.start_soon(run._run, config(tmp_path, server + "/"), KEY, genesis_of(KEY))
        await happens(lambda: bool(made and made[0].drand and made[0].drand.fresh()), 60)
        keeper = made[0].machines.justice.beacon
        assert keeper is not None and keeper._fresh() == bytes.fromhex(found.randomness)
        nursery.cancel_scope.cancel()


async def test_a_relay_that_is_down_is_no_error(made: list[Assembly], tmp_path: Path) -> None:
    asked = trio.Event()

    def broken(path: str) -> bytes:
        asked.set()
        return http(b"{}", "503 Service Unavailable")

    reply: Reply = broken
    async with relay(reply) as server, trio.open_nursery() as nursery:
        nursery.start_soon(run._run, config(tmp_path, server), KEY, genesis_of(KEY))
        with trio.fail_after(SECONDS):
            await asked.wait()
        await happens(lambda: (tmp_path / "control.sock").exists())
        keeper = made[0].machines.justice.beacon
        assert keeper is not None and keeper._fresh() == b""
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("url", "role"), [("", "validator"), ("http://127.0.0.1:9", "provider")])
async def test_without_a_relay_or_a_seat_nobody_is_asked(url: str, role: Role, tmp_path: Path) -> None:
    seated = KEY if role == "validator" else Identity(b"\x08" * 32)
    node = await assemble(config(tmp_path, url, role), KEY, genesis_of(seated))
    assert node.drand is None
    node.close()
