"""A js-libp2p peer in a process of its own, driven by JSON lines. What it can do is listed in peer.mjs."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

FOLDER: Final = Path(__file__).parent
MODULES: Final = FOLDER / "node_modules"
STAMP: Final = MODULES / ".installed-lock.json"
INSTALL_S: Final = 180.0
ANSWER_S: Final = 60.0
NODE_MAJOR_MIN: Final = 18

Json = dict[str, object]


def install() -> None:
    """Put the locked packages into node_modules, once. Skips the test where Node, npm or the registry is absent."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("js-libp2p needs node and npm")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_MAJOR_MIN:
        pytest.skip(f"js-libp2p needs node {NODE_MAJOR_MIN}, here is {version}")
    lock = (FOLDER / "package-lock.json").read_bytes()
    with (FOLDER / "package.json").open("rb") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if STAMP.exists() and STAMP.read_bytes() == lock:
            return
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        try:
            done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm ci took longer than {INSTALL_S:.0f} s")
        if done.returncode != 0:
            pytest.skip(f"npm ci failed: {done.stderr.strip()[-300:]}")
        STAMP.write_bytes(lock)


class JsPeer:
    """The process. `events` are the lines that answer nothing, oldest first."""

    def __init__(self, process: trio.Process) -> None:
        self.events: list[Json] = []
        self.peer = ""
        self.addresses: list[str] = []
        self._process = process
        self._answers: dict[int, Json] = {}
        self._news = trio.Event()
        self._next = 0
        self._has_ended = False

    async def do(self, command: str, **arguments: object) -> Json:
        """Run one command of peer.mjs and give its answer. RuntimeError with the text of an error."""
        self._next += 1
        number = self._next
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps({"id": number, "do": command, **arguments}).encode() + b"\n")
        with trio.fail_after(ANSWER_S):
            while number not in self._answers:
                if self._has_ended:
                    raise RuntimeError(f"{command}: the js peer ended")
                await self._news.wait()
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{command}: {answer['error']}")
        return answer

    async def event(self, kind: str) -> Json:
        """Wait for the next event of a kind, and take it."""
        with trio.fail_after(ANSWER_S):
            while True:
                for event in self.events:
                    if event["event"] == kind:
                        self.events.remove(event)
                        return event
                if self._has_ended:
                    raise RuntimeError(f"no {kind}: the js peer ended")
                await self._news.wait()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def read(self) -> None:
        """Sort what it says into answers and events, until it ends."""
        assert self._process.stdout is not None
        rest = b""
        async for piece in self._process.stdout:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                said: Json = json.loads(line)
                number = said.get("id")
                if isinstance(number, int):
                    self._answers[number] = said
                else:
                    self.events.append(said)
            self._wake()
        self._has_ended = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def js_peer(**listen: object) -> AsyncIterator[JsPeer]:
    """A peer that listens on a free port of loopback; `listen` are the arguments of its command."""
    async with trio.open_nursery() as nursery:
        process: trio.Process = await trio.lowlevel.open_process(
            ["node", str(FOLDER / "peer.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=FOLDER,
            env=os.environ | {"NODE_NO_WARNINGS": "1"},
        )
        try:
            js = JsPeer(process)
            nursery.start_soon(js.read)
            await js.event("ready")
            found = await js.do("listen", **listen)
            js.peer = str(found["peer"])
            addresses = found["addresses"]
            assert isinstance(addresses, list)
            js.addresses = [str(address) for address in addresses]
            yield js
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            nursery.cancel_scope.cancel()
