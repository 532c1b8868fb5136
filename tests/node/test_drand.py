"""drand's client against a local server that answers as drand's relays do, with recorded rounds of quicknet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import pytest
import trio

from node import drand
from node.drand import QUICKNET, Drand, Round, can_verify, check, is_signed
from protocol.errors import Refused, Unavailable
from protocol.units import SECOND, Micros

RECORDED: Final = (
    Round(
        123,
        "fb8f7bc29bf24db51871ec8c79f3a1e4bd0557bc0dfcee9ed1d924e69d1c60dc",
        "b75c69d0b72a5d906e854e808ba7e2accb1542ac355ae486d591aa9d43765482e26cd02df835d3546d23c4b13e0dfc92",
    ),
    Round(
        1000,
        "fe290beca10872ef2fb164d2aa4442de4566183ec51c56ff3cd603d930e54fdd",
        "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39",
    ),
)
"""Rounds of quicknet as its relays give them for ever."""

Reply = Callable[[str], bytes]


def time_of(number: int) -> Micros:
    return Micros((QUICKNET.genesis + (number - 1) * QUICKNET.period) * SECOND)


def body(found: Round) -> bytes:
    fields = {"round": found.round, "randomness": found.randomness, "signature": found.signature}
    return json.dumps(fields).encode()


@asynccontextmanager
async def relay(reply: Reply) -> AsyncIterator[str]:
    """A server on this machine; `reply` gets the path and returns a whole HTTP answer."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                data += await stream.receive_some(4096)
            await stream.send_all(reply(data.split()[1].decode()))

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


def http(data: bytes, status: str = "200 OK") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n"
    )
    return head.encode() + b"\r\n" + data


def latest(found: Round) -> Reply:
    wanted = f"/{QUICKNET.chain}/public/latest"
    return lambda path: http(body(found)) if path == wanted else http(b"{}", "404 Not Found")


@pytest.mark.parametrize("found", RECORDED, ids=lambda item: str(item.round))
def test_recorded_rounds_hold(found: Round) -> None:
    assert check(QUICKNET, found, time_of(found.round)) == bytes.fromhex(found.randomness)
    assert QUICKNET.round_at(time_of(found.round)) == found.round
    assert QUICKNET.round_at(Micros(0)) == 0


@pytest.mark.skipif(not can_verify(), reason="py_ecc is not installed: BLS signatures cannot be checked")
def test_signatures_are_checked() -> None:
    first, second = RECORDED
    assert is_signed(QUICKNET, first)
    for forged in (
        Round(124, first.randomness, first.signature),
        Round(123, second.randomness, second.signature),
        Round(123, first.randomness, "c0" + "00" * 47),
        Round(123, first.randomness, "ff" * 48),
        Round(123, first.randomness, first.signature[:-2]),
    ):
        assert not is_signed(QUICKNET, forged)
    signature = second.signature
    moved = Round(123, hashlib.sha256(bytes.fromhex(signature)).hexdigest(), signature)
    with pytest.raises(Refused) as caught:
        check(QUICKNET, moved, time_of(123))
    assert caught.value.code == "bad_signature"


def test_without_the_package_signatures_are_not_checked_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drand, "can_verify", lambda: False)
    with pytest.raises(Unavailable) as caught:
        is_signed(QUICKNET, RECORDED[0])
    assert caught.value.code == "no_bls"
    assert check(QUICKNET, RECORDED[0], time_of(123)), "the digest still binds it"


@pytest.mark.parametrize(
    ("found", "at", "code"),
    [
        (Round(1000, "00" * 32, RECORDED[1].signature), 1000, "bad_randomness"),
        (Round(1000, RECORDED[1].randomness, "abc"), 1000, "bad_randomness"),
        (RECORDED[1], 1000 + drand.AGE_ROUNDS_MAX + 1, "stale_round"),
        (RECORDED[1], 998, "future_round"),
    ],
)
def test_rounds_that_do_not_hold(found: Round, at: int, code: str) -> None:
    with pytest.raises(Refused) as caught:
        check(QUICKNET, found, time_of(at))
    assert caught.value.code == code


async def test_the_newest_round_is_fresh_for_a_while() -> None:
    now = [time_of(1000)]
    async with relay(latest(RECORDED[1])) as server:
        client = Drand(lambda: now[0], servers=(server,))
        assert client.fresh() == b"", "nothing is waited for"
        await client.refresh()
        assert client.fresh() == bytes.fromhex(RECORDED[1].randomness)
        now[0] = time_of(1001 + drand.AGE_ROUNDS_MAX)
        assert client.fresh() == b"", "an old round adds nothing"
        await client.close()


async def test_a_bad_server_is_passed_over() -> None:
    replies: list[Reply] = [
        lambda path: http(b"{}", "500 Internal Server Error"),
        lambda path: http(b'{"round": "x"}'),
        lambda path: http(b"x" * (drand.ANSWER_BYTES_MAX + 1)),
        latest(RECORDED[0]),
        latest(RECORDED[1]),
    ]
    async with (
        relay(replies[0]) as a, relay(replies[1]) as b, relay(replies[2]) as c, relay(replies[3]) as d,
        relay(replies[4]) as e,
    ):  # fmt: skip
        client = Drand(lambda: time_of(1000), servers=(a, b, c, d, e))
        await client.refresh()
        assert client.fresh() == bytes.fromhex(RECORDED[1].randomness)
        await client.close()
        alone = Drand(lambda: time_of(1000), servers=(a, b, c, d))
        with pytest.raises(Unavailable) as caught:
            await alone.refresh()
        assert caught.value.code == "no_drand"
        assert alone.fresh() == b""
        await alone.close()
