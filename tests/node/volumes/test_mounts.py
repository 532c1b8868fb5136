"""Trees in real sandboxes: code below /in, volumes read-only and writable, and what a chunk left in one."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from node.blobs import BlobStore
from node.executors.interface import Executor
from node.executors.ladder import ladder
from node.executors.wasm import engine_digest
from node.runner import Runner
from node.runtimes import discover
from node.transport import Transport, TransportConfig
from node.volumes import folders
from node.volumes.shelf import PACKED, bring_trees
from protocol import jobrules, wire
from protocol.completions import RunDone
from protocol.effects import Run
from protocol.errors import Refused, Unavailable
from protocol.identity import Identity
from protocol.jobspec import Chunk, JobSpec, Manifest, TreeRef
from protocol.units import GIB, MIB, Digest, PeerId
from storage import pieces, trees
from storage.trees import Piece, Tree
from tests.node.waiting import SECONDS

OWNER = PeerId(bytes(32))
RUNTIMES = discover({}, engine_digest())
_manifests = wire.decoder(Manifest)


@pytest.fixture(params=["bwrap", "runc", "docker", "child"])
async def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    tiers: dict[str, Executor] = {one.tier: one for one in ladder(f"vol-{os.getpid()}", tmp_path / "images")}
    executor = tiers[request.param]
    if cause := await executor.why_not():
        pytest.skip(f"tier {request.param} cannot be used here: {cause}")
    made = Runner(BlobStore(tmp_path / "blobs", GIB), tmp_path / "tasks", [executor], RUNTIMES, serves=[OWNER])
    await made.clean()
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (top / "sub" / "run.sh").chmod(0o755)
    (top / "a.txt").write_text("alpha\n")
    (top / "link").symlink_to("sub/run.sh")
    return top


def kept(blobs: BlobStore, folder: Path, mount: str, volume: str = "", is_writable: bool = False) -> TreeRef:
    """A folder as a tree whose blobs are here."""
    found = folders.listed(folder)
    made = [Piece(blobs.put(data), len(data)) for data in pieces.pieces(folders.contents(folder, found))]
    tree = folders.tree_of(found, made)
    data = trees.encode(tree)
    return TreeRef(mount, blobs.put(data), len(data), tree.size, volume, is_writable)


def job(*commands: str, trees: tuple[TreeRef, ...]) -> JobSpec:
    spec = JobSpec("test", "python", commands, (Chunk(),), trees=trees)
    jobrules.check(spec)
    return spec


async def ran(runner: Runner, spec: JobSpec) -> tuple[RunDone, dict[str, bytes]]:
    """How a chunk ended, and its output."""
    lines: list[str] = []
    done = await runner.run(Run("job/0/1", spec, 0, (), (), OWNER), lines.extend, lambda tier: None)
    if done.reason != "ok":
        return done, {"log": "\n".join(lines).encode()}
    manifest = wire.decode(runner._blobs.read(done.output, MIB), _manifests, OWNER, MIB)
    return done, {file.path: runner._blobs.read(Digest(file.digest), GIB) for file in manifest.files}


async def test_a_volume_is_read_and_cannot_be_changed(runner: Runner, folder: Path) -> None:
    ref = kept(runner._blobs, folder, "/vol/data", "data")
    spec = job(
        'cat "$SHOAL_VOLUME_DATA/a.txt" > "$SHOAL_OUT/a"',
        '"$SHOAL_VOLUME_DATA/link" > "$SHOAL_OUT/ran"',
        'if echo x 2>/dev/null >> "$SHOAL_VOLUME_DATA/a.txt"; then echo wrote > "$SHOAL_OUT/wrote"; fi',
        trees=(ref,),
    )
    is_sandbox = "child" not in runner.tiers
    for _ in range(2):
        done, files = await ran(runner, spec)
        assert done.reason == "ok", (done, files)
        assert (files["a"], files["ran"]) == (b"alpha\n", b"ran\n")
        assert not (is_sandbox and "wrote" in files)


async def test_code_lies_below_in(runner: Runner, folder: Path) -> None:
    ref = kept(runner._blobs, folder, "/in/code")
    done, files = await ran(runner, job("sh code/link > $SHOAL_OUT/ran", "cat code/a.txt > $SHOAL_OUT/a", trees=(ref,)))
    assert done.reason == "ok", (done, files)
    assert files == {"ran": b"ran\n", "a": b"alpha\n"}


async def test_what_a_chunk_leaves_in_a_volume_is_its_output(runner: Runner, folder: Path, tmp_path: Path) -> None:
    ref = kept(runner._blobs, folder, "/vol/out", "out", is_writable=True)
    spec = job(
        'cd "$SHOAL_VOLUME_OUT"', "echo more >> a.txt", "rm link", "mkdir -p new/er", "echo new > new/er/file",
        "chmod 700 new/er/file", "ln -s ../a.txt sub/back", "rm sub/run.sh", trees=(ref,),
    )  # fmt: skip
    outputs = set()
    files: dict[str, bytes] = {}
    for _ in range(2):
        done, files = await ran(runner, spec)
        assert done.reason == "ok", (done, files)
        outputs.add(done.output)
    assert len(outputs) == 1, "the same chunk gives the same output: it can be audited"
    tree = trees.decode(files[f"{PACKED}/out/tree"])

    def read(number: int) -> bytes:
        return files[f"{PACKED}/out/piece-{number:05}"]

    folders.lay_out(tree, tmp_path / "back", read)
    names = sorted(path.relative_to(tmp_path / "back").as_posix() for path in (tmp_path / "back").rglob("*"))
    assert names == ["a.txt", "new", "new/er", "new/er/file", "sub", "sub/back"]
    assert (tmp_path / "back" / "a.txt").read_text() == "alpha\nmore\n"
    assert (tmp_path / "back" / "new" / "er" / "file").stat().st_mode & 0o777 == 0o755
    assert str((tmp_path / "back" / "sub" / "back").readlink()) == "../a.txt"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("ln -s /etc/passwd p", "link to '/etc/passwd'"),
        ("ln -s ../../run p", "leads out of the tree"),
        ("mkfifo p", "a device, a pipe"),
        ("ln a.txt b.txt", "second name"),
    ],
)
async def test_tricks_in_a_volume_are_refused(runner: Runner, folder: Path, command: str, words: str) -> None:
    ref = kept(runner._blobs, folder, "/vol/out", "out", is_writable=True)
    done, _ = await ran(runner, job('cd "$SHOAL_VOLUME_OUT"', command, trees=(ref,)))
    assert done.reason == "exit" and words in done.detail


async def test_an_output_that_imitates_a_volume_is_refused(runner: Runner, folder: Path) -> None:
    ref = kept(runner._blobs, folder, "/vol/out", "out", is_writable=True)
    done, _ = await ran(runner, job(f"ln -s /etc $SHOAL_OUT/{PACKED}", trees=(ref,)))
    assert done.reason == "exit" and "of its own" in done.detail


async def test_a_tree_that_lies_about_itself_is_no_input(runner: Runner, folder: Path) -> None:
    blobs = runner._blobs
    good = kept(blobs, folder, "/vol/data", "data")
    hostile = blobs.put(wire.encode(Tree((trees.Link("a", "/etc"),), ())))
    for ref in (
        TreeRef("/vol/data", good.digest, good.list_bytes, good.size + 1, "data"),
        TreeRef("/vol/data", hostile, blobs.size(hostile), 0, "data"),
    ):
        done, _ = await ran(runner, job("true", trees=(ref,)))
        assert done.reason == "inputs", done
    assert not [*runner._folder.iterdir()], "nothing is left of the task"


Make = Callable[[str], "Peer"]


class Peer:
    """A transport and its store."""

    def __init__(self, name: str, folder: Path) -> None:
        self.identity = Identity(name.encode().ljust(32, b"."))
        self.blobs = BlobStore(folder / name, GIB)
        config = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), neighbours_min=0)
        self.transport = Transport(self.identity, "reef", config, self.blobs)

    @property
    def received(self) -> int:
        """Bytes of blobs that came."""
        return self.transport.statistics().get("blob_bytes_received", 0)

    async def bring(self, spec: JobSpec, source: Peer) -> None:
        async def one(digest: Digest, size_max: int) -> None:
            await self.transport.fetch(digest, size_max, [source.identity.peer])

        with trio.fail_after(SECONDS):
            await bring_trees(spec, self.blobs, one)


async def test_a_second_start_moves_no_bytes_and_a_changed_tree_few(tmp_path: Path, folder: Path) -> None:
    owner, provider = Peer("owner", tmp_path), Peer("provider", tmp_path)
    (folder / "big.bin").write_bytes(os.urandom(5 * MIB))
    first = job("true", trees=(kept(owner.blobs, folder, "/vol/data", "data"), kept(owner.blobs, folder, "/in/code")))
    (folder / "zz.txt").write_text("new")
    second = job("true", trees=(kept(owner.blobs, folder, "/vol/data", "data"),))
    async with AsyncExitStack() as stack:
        for peer in (owner, provider):
            await stack.enter_async_context(peer.transport.serving())
        provider.transport.learn(owner.identity.peer, owner.transport.addresses())
        await provider.bring(first, owner)
        moved = provider.received
        assert moved >= 5 * MIB
        assert moved < 5 * MIB + MIB // 2, "the same content for two places comes once"
        await provider.bring(first, owner)
        assert provider.received == moved, "a second start moves no bytes"
        await provider.bring(second, owner)
        assert 0 < provider.received - moved <= 4 * MIB + 4096, "at most the last piece and the list"


async def test_a_tree_whose_piece_nobody_has_is_unavailable(tmp_path: Path, folder: Path) -> None:
    owner, provider = Peer("owner", tmp_path), Peer("provider", tmp_path)
    (folder / "big.bin").write_bytes(os.urandom(5 * MIB))
    spec = job("true", trees=(kept(owner.blobs, folder, "/vol/data", "data"),))
    tree = trees.decode(owner.blobs.read(Digest(spec.mounts[0].digest), MIB))
    owner.blobs.remove(Digest(tree.pieces[-1].digest))
    async with AsyncExitStack() as stack:
        for peer in (owner, provider):
            await stack.enter_async_context(peer.transport.serving())
        provider.transport.learn(owner.identity.peer, owner.transport.addresses())
        with pytest.raises((Unavailable, Refused)):
            await provider.bring(spec, owner)
