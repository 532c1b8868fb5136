"""The control socket, from both sides, over a real Unix socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgpack
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from node import control
from node.control import ControlServer, Emit, Handler, Plain, pack, stream, unary
from node.control_client import ControlClient, NodeFault
from node.control_methods import JobLogsParams, NoParams, PriceParams
from node.data_lock import hold
from protocol.errors import LocalError, Refused, RemoteViolation, ShoalError, Unavailable
from protocol.units import PeerId
from tests.node.waiting import SECONDS

T = TypeVar("T")


class Owner:
    """Methods that say what happened to them."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.stopped = trio.Event()
        self.emitted = 0

    async def price(self, params: PriceParams) -> Plain:
        return {"price_per_hour": params.per_hour if params.per_hour is not None else 7}

    async def stop(self, params: NoParams) -> Plain:
        self.stopped.set()
        return {}

    async def hang(self, params: NoParams) -> Plain:
        try:
            await self.stopped.wait()
        finally:
            self.cancelled += 1
        return {}

    async def count(self, params: JobLogsParams, emit: Emit) -> None:
        for sequence in range(params.since or 0, 5):
            await emit({"sequence": sequence})
        if params.follow:
            try:
                await trio.sleep_forever()
            finally:
                self.cancelled += 1

    async def flood(self, params: NoParams, emit: Emit) -> None:
        while True:
            await emit({"data": bytes(1 << 20)})
            self.emitted += 1

    def methods(self) -> dict[str, Handler]:
        return {
            "node.price": unary(PriceParams, self.price),
            "node.stop": unary(NoParams, self.stop),
            "hang": unary(NoParams, self.hang),
            "job.logs": stream(JobLogsParams, self.count),
            "flood": stream(NoParams, self.flood),
            "big": unary(NoParams, self.big),
            **{name: unary(NoParams, self.failing(error)) for name, error in ERRORS.items()},
        }

    async def big(self, params: NoParams) -> Plain:
        return {"data": bytes(control.FRAME_BYTES_MAX)}

    def failing(self, error: Exception) -> Callable[[NoParams], Awaitable[Plain]]:
        async def fail(params: NoParams) -> Plain:
            raise error

        return fail


ERRORS: dict[str, Exception] = {
    "refuse": Refused("no", code="too_dear", fix="Pay less.", numbers={"price": 3, "cap": 2}),
    "later": Unavailable("not now", code="busy", fix="Wait."),
    "peer": RemoteViolation(PeerId(bytes(32)), "lied"),
    "bug": LocalError("broken", code="invariant"),
    "surprise": KeyError("oops"),
}


@asynccontextmanager
async def serving(folder: Path, owner: Owner) -> AsyncIterator[Path]:
    path = folder / "control.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlServer(path, owner.methods()).serve)
        yield path
        nursery.cancel_scope.cancel()


async def in_thread(path: Path, talk: Callable[[ControlClient], T]) -> T:
    def run() -> T:
        with ControlClient(path, deadline_s=SECONDS) as client:
            return talk(client)

    return await trio.to_thread.run_sync(run)


async def test_unary_methods_take_typed_parameters_and_answer(tmp_path: Path) -> None:
    async with serving(tmp_path, Owner()) as path:
        assert await in_thread(path, lambda client: client.call("node.price")) == {"price_per_hour": 7}
        assert await in_thread(path, lambda client: client.call("node.price", {"per_hour": 9})) == {"price_per_hour": 9}


async def test_streams_give_their_items_and_end(tmp_path: Path) -> None:
    async with serving(tmp_path, Owner()) as path:
        items = await in_thread(path, lambda client: list(client.iter_stream("job.logs", {"job": "job_1", "since": 2})))
    assert [item["sequence"] for item in items] == [2, 3, 4]


@pytest.mark.parametrize(
    ("method", "params", "kind", "code"),
    [
        ("refuse", {}, Refused, "too_dear"),
        ("later", {}, Unavailable, "busy"),
        ("peer", {}, NodeFault, "violation"),
        ("bug", {}, NodeFault, "invariant"),
        ("surprise", {}, NodeFault, "internal"),
        ("no.such", {}, Refused, "unknown_method"),
        ("node.price", {"per_hour": "much"}, Refused, "bad_params"),
        ("node.price", {"per_hour": -1}, Refused, "bad_params"),
        ("node.price", {"per_hour": 1, "please": True}, Refused, "bad_params"),
        ("job.logs", {}, Refused, "bad_params"),
        ("big", {}, Refused, "over_limit"),
    ],
)
async def test_errors_keep_code_fault_and_fix(
    tmp_path: Path, method: str, params: Plain, kind: type[ShoalError], code: str
) -> None:
    async with serving(tmp_path, Owner()) as path:
        with pytest.raises(kind) as caught:
            await in_thread(path, lambda client: client.call(method, params))
        assert caught.value.code == code
        assert await in_thread(path, lambda client: client.call("node.price")) == {"price_per_hour": 7}


async def test_a_refusal_carries_the_numbers_that_disagreed(tmp_path: Path) -> None:
    async with serving(tmp_path, Owner()) as path:
        with pytest.raises(Refused) as caught:
            await in_thread(path, lambda client: client.call("refuse"))
    assert caught.value.numbers == {"price": 3, "cap": 2}
    assert caught.value.fix == "Pay less."


async def test_cancel_ends_one_request_and_leaves_the_connection(tmp_path: Path) -> None:
    owner = Owner()
    async with serving(tmp_path, owner) as path, await trio.open_unix_socket(str(path)) as raw:
        await raw.send_all(pack({"id": 1, "method": "hang", "params": {}}) + pack({"id": 1, "cancel": True}))
        assert await receive(raw) == {"id": 1, "end": True}
        assert owner.cancelled == 1
        await raw.send_all(pack({"id": 2, "method": "node.price"}))
        assert await receive(raw) == {"id": 2, "result": {"price_per_hour": 7}}


async def test_a_client_that_hangs_up_cancels_what_it_asked_for(tmp_path: Path) -> None:
    owner = Owner()
    async with serving(tmp_path, owner) as path:
        async with await trio.open_unix_socket(str(path)) as raw:
            await raw.send_all(
                pack({"id": 1, "method": "job.logs", "params": {"job": "job_1", "since": 4, "follow": True}})
            )
            assert await receive(raw) == {"id": 1, "item": {"sequence": 4}}
        with trio.fail_after(SECONDS):
            while owner.cancelled == 0:
                await trio.testing.wait_all_tasks_blocked()


async def test_the_answer_to_stop_arrives_although_the_server_ends(tmp_path: Path) -> None:
    owner = Owner()
    path = tmp_path / "control.sock"
    answers: list[Plain] = []

    async def ask() -> None:
        answers.append(await in_thread(path, lambda client: client.call("node.stop")))

    async with trio.open_nursery() as clients, trio.open_nursery() as nursery:
        await nursery.start(ControlServer(path, owner.methods()).serve)
        clients.start_soon(ask)
        await owner.stopped.wait()
        nursery.cancel_scope.cancel()
    assert answers == [{}]
    assert not path.exists()


async def test_a_reader_that_does_not_read_is_disconnected(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    owner = Owner()
    async with serving(tmp_path, owner) as path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lazy:
            lazy.connect(str(path))
            lazy.sendall(pack({"id": 1, "method": "flood", "params": {}}))
            await trio.testing.wait_all_tasks_blocked()
            emitted = owner.emitted
            mock_clock.jump(control.WRITE_DEADLINE_S * 2)
            await trio.testing.wait_all_tasks_blocked()
            assert owner.emitted == emitted
            lazy.settimeout(SECONDS)
            while lazy.recv(1 << 20):
                pass  # What lay in the socket's buffer, then the end.


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\4" + b"\xc1" * 4,
        pack({"id": -1}),
        pack({"method": "x"}),
        pack({"id": 1, "x": 2}),
    ],
)
async def test_garbage_is_answered_and_the_connection_closed(tmp_path: Path, garbage: bytes) -> None:
    async with serving(tmp_path, Owner()) as path, await trio.open_unix_socket(str(path)) as raw:
        await raw.send_all(garbage)
        answer = await receive(raw)
        assert answer["id"] == 0
        assert error_code(answer) in ("malformed", "over_limit")
        assert await raw.receive_some(1) == b""


async def test_too_many_requests_in_flight_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, Owner()) as path, await trio.open_unix_socket(str(path)) as raw:
        for number in range(control.REQUESTS_MAX + 1):
            await raw.send_all(pack({"id": number, "method": "hang"}))
        answer = await receive(raw)
        assert (answer["id"], error_code(answer)) == (control.REQUESTS_MAX, "busy")
        await raw.send_all(pack({"id": 3, "method": "hang"}))
        assert error_code(await receive(raw)) == "id_in_use"


async def test_too_many_clients_are_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CONNECTIONS_MAX", 1)
    async with serving(tmp_path, Owner()) as path, await trio.open_unix_socket(str(path)) as first:
        await first.send_all(pack({"id": 1, "method": "node.price"}))
        await receive(first)
        async with await trio.open_unix_socket(str(path)) as second:
            assert error_code(await receive(second)) == "busy"


async def test_a_socket_left_behind_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    async with serving(tmp_path, Owner()):
        assert path.stat().st_mode & 0o777 == 0o600
        assert await in_thread(path, lambda client: client.call("node.price")) == {"price_per_hour": 7}
    path.write_text("mine")
    with pytest.raises(Refused, match="no socket"):
        await ControlServer(path, {}).serve()
    assert path.read_text() == "mine"


async def test_a_path_too_long_for_a_socket_is_explained(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        await ControlServer(tmp_path / ("x" * 120), {}).serve()
    assert caught.value.code == "path_too_long"


async def test_a_client_of_another_user_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.getuid()
    async with serving(tmp_path, Owner()) as path:
        monkeypatch.setattr(control, "_CREDENTIALS", _Foreign(own + 1))
        async with await trio.open_unix_socket(str(path)) as raw:
            assert await raw.receive_some(1) == b""


class _Foreign:
    """Reads any credentials as those of another user."""

    size = 12

    def __init__(self, user: int) -> None:
        self._user = user

    def unpack(self, raw: bytes) -> tuple[int, int, int]:
        return (1, self._user, 1)


def test_parameters_that_allow_unknown_fields_are_a_mistake_of_ours() -> None:
    class Loose(Struct):
        x: int = 0

    async def answer(params: Loose) -> Plain:
        return {}

    with pytest.raises(LocalError):
        unary(Loose, answer)


def test_no_node_is_told_with_the_command_that_starts_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no node answers") as caught:
        ControlClient(tmp_path / "control.sock")
    assert "shoal node run" in caught.value.fix


def test_a_node_that_says_nonsense_is_no_crash_of_the_client(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen(1)

        def nonsense() -> None:
            other, _ = listening.accept()
            with other:
                other.sendall(b"\0\0\0\1\xc1")

        thread = threading.Thread(target=nonsense)
        thread.start()
        with ControlClient(path, deadline_s=SECONDS) as client, pytest.raises(ShoalError):
            client.call("node.status")
        thread.join()


@given(
    st.dictionaries(
        st.text(max_size=20), st.one_of(st.integers(-(2**60), 2**60), st.binary(max_size=50), st.text(max_size=50))
    )
)
def test_frames_are_read_by_an_independent_decoder(values: dict[str, object]) -> None:
    data = pack({"id": 1, "result": values})
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert msgpack.unpackb(data[4:]) == {"id": 1, "result": values}


def test_a_data_directory_has_one_owner(tmp_path: Path) -> None:
    data = tmp_path / "node"
    with hold(data):
        with pytest.raises(Refused) as caught, hold(data):
            pass
        assert f"process {os.getpid()}" in caught.value.detail
        assert caught.value.code == "data_in_use"
        assert data.stat().st_mode & 0o777 == 0o700
    with hold(data):
        assert (data / "lock").read_text() == f"{os.getpid()}\n"


def test_a_data_directory_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot use the data directory"), hold(tmp_path / "file" / "node"):
        pass


def error_code(answer: dict[str, object]) -> object:
    error = answer["error"]
    assert isinstance(error, dict)
    return error["code"]


async def receive(raw: trio.SocketStream) -> dict[str, object]:
    data = bytearray()
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        part = await raw.receive_some(
            4 - len(data) if len(data) < 4 else 4 + int.from_bytes(data[:4], "big") - len(data)
        )
        assert part, "the node hung up"
        data += part
    answer = msgpack.unpackb(bytes(data[4:]))
    assert isinstance(answer, dict)
    return answer
