"""Real processes that are killed while bytes move: a source, and the receiver."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import trio

from node.addresses import split_address
from node.blobs import BlobStore
from protocol.units import GIB, MIB
from tests.node.waiting import happens

if TYPE_CHECKING:
    from tests.node.bulk.conftest import Node, Serving

Make = Callable[..., "Node"]
SCRIPT = Path(__file__).with_name("bulk_process.py")


@contextmanager
def process(folder: Path, name: str, rate: int, *wanted: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A node that is dead at the end of the block."""
    command = [sys.executable, str(SCRIPT), str(folder), name, str(rate), *wanted]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        yield child, child.stdout
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


async def test_a_source_that_is_killed_costs_only_what_was_on_its_way(
    node: Make, serving: Serving, tmp_path: Path
) -> None:
    data = random.Random(1).randbytes(24 * MIB)
    digest = BlobStore(tmp_path / "doomed", GIB).put(data)
    a, b = node("a"), node("b")
    a.blobs.put(data)
    with process(tmp_path / "doomed", "doomed", 12 * MIB) as (child, said):
        doomed, address = split_address((await trio.to_thread.run_sync(said.readline)).strip())
        async with serving(a, b):
            a.plane.up.set_rate(12 * MIB)
            b.transport.learn(doomed, (address,))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(b.transport.fetch, digest, GIB, [doomed, a.peer])
                await happens(lambda: b.count("blob_bytes_received") > 4 * MIB)
                child.kill()
            assert b.blobs.read(digest, GIB) == data
            by_source = b.plane.tally.transfers[-1].by_source
            assert sum(by_source.values()) == len(data) == b.count("blob_bytes_received")
            assert by_source[doomed, "direct"] > 0
            assert b.count("violations") == 0


async def test_a_receiver_that_is_killed_goes_on_and_fetches_no_chunk_twice(
    node: Make, serving: Serving, tmp_path: Path
) -> None:
    data = random.Random(2).randbytes(24 * MIB)
    a = node("a")
    digest = a.blobs.put(data)
    folder = tmp_path / "receiver"
    async with serving(a):
        wanted = (a.transport.addresses()[0], digest.hex(), str(GIB))
        with process(folder, "receiver", 16 * MIB, *wanted, str(6 * MIB)) as (child, said):
            await trio.to_thread.run_sync(said.readline)
            first = 0
            while line := await trio.to_thread.run_sync(said.readline):
                _, first = json.loads(line)
            assert (await trio.to_thread.run_sync(child.wait), first >= 6 * MIB) == (-signal.SIGKILL, True)
        journal = next((folder / "partial").glob("*.journal")).stat().st_size
        with process(folder, "receiver", 0, *wanted) as (_, said):
            await trio.to_thread.run_sync(said.readline)
            word, second = "", 0
            while word != "done":
                word, second = json.loads(await trio.to_thread.run_sync(said.readline))
    kept = (journal - 48 - 24 * 32) // 4
    assert kept * MIB >= first
    assert second == len(data) - kept * MIB, "exactly what was missing was fetched"
    assert BlobStore(folder, GIB).read(digest, GIB) == data
    assert list((folder / "partial").iterdir()) == []
