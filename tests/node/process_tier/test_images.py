"""Folders of process images from others: nothing of them is believed before every byte has been checked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.process_tier import folders, images
from node.process_tier.images import ProcessImage
from protocol.errors import Refused, RemoteViolation
from protocol.identity import Identity
from tests.node.process_tier.workshop import NETWORK, WORKER, Workshop

STRANGER = Identity(bytes(32))
IMAGE = ProcessImage("job/0", "runc", "4.2", "x86_64", bytes(32), 1_879_052_288, ("pipe:[1]",), bytes(32), 0)


def snapshot(folder: Path, signer: Identity = WORKER) -> Path:
    """A folder as a dump leaves it, with two small files."""
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "core-1.img").write_bytes(b"core")
    (folder / "out").mkdir()
    (folder / "out" / "log").write_bytes(b"0\n1\n")
    out = (folders.Entry("out", "folder", 0o755), folders.Entry("out/log", "file", 0o644, 5, 4))
    table = (*images.image_entries(folder), *folders.digests(out, folder))
    images.write(folder, IMAGE, table, signer, NETWORK)
    return folder


def test_an_honest_folder_is_verified(tmp_path: Path) -> None:
    verified = images.verify(snapshot(tmp_path / "s"), WORKER.peer, NETWORK)
    assert (verified.image.task, verified.image.uid, verified.image.size) == ("job/0", 1_879_052_288, 8)
    assert [entry.path for entry in verified.entries] == ["images", "images/core-1.img", "out", "out/log"]


async def test_another_signer_is_refused(tmp_path: Path) -> None:
    folder = snapshot(tmp_path / "s", STRANGER)
    with pytest.raises(RemoteViolation) as violation:
        images.verify(folder, WORKER.peer, NETWORK)
    assert violation.value.code == "wrong_signer"
    with pytest.raises(RemoteViolation, match="signature"):
        images.verify(folder, STRANGER.peer, "another network")


def _flip(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return change


HARM: dict[str, Callable[[Path], object]] = {
    "a flipped bit of an image": _flip("images/core-1.img"),
    "a flipped bit of a file": _flip("out/log"),
    "a flipped bit of the table": _flip("table"),
    "a flipped bit of the statement": _flip("statement"),
    "a longer file": lambda folder: (folder / "out" / "log").write_bytes(b"0\n1\n2\n"),
    "a missing image": lambda folder: (folder / "images" / "core-1.img").unlink(),
    "no statement": lambda folder: (folder / "statement").unlink(),
    "one image more": lambda folder: (folder / "images" / "mountpoints-2.img").write_bytes(b"x"),
    "a link among the images": lambda folder: (folder / "images" / "link").symlink_to("/etc"),
}


def _linked(folder: Path) -> None:
    (folder / "out").rename(folder.parent / "elsewhere")
    (folder / "out").symlink_to(folder.parent / "elsewhere")


HARM["a link for a folder"] = _linked


@pytest.mark.parametrize("harm", HARM)
def test_what_was_changed_is_refused(tmp_path: Path, harm: str) -> None:
    folder = snapshot(tmp_path / "s")
    HARM[harm](folder)
    with pytest.raises((Refused, RemoteViolation)):
        images.verify(folder, WORKER.peer, NETWORK)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "out/../../x", "out//x", "./x", "a\0b", "", "a/" * 40 + "a"])
def test_paths_that_lead_elsewhere_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(Refused):
        folders.check_path(path)
    with pytest.raises(Refused):
        images.accept(tmp_path, path, b"x")
    assert list(tmp_path.iterdir()) == []


async def test_a_strangers_images_are_not_restored_whatever_they_say(workshop: Workshop) -> None:
    """A signature tells who wrote an image, not that it is harmless: only the owner's own nodes count."""
    folder = snapshot(workshop.folder / "s", STRANGER)
    with pytest.raises(Refused) as refusal:
        await workshop.tier().restore(folder, workshop.task("t", ("true",)), STRANGER.peer)
    assert refusal.value.code == "untrusted_signer"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text("abc.-é", min_size=1, max_size=6), max_size=5, unique=True), data=st.binary(max_size=300))
def test_parts_carry_a_snapshot_whole(tmp_path_factory: pytest.TempPathFactory, names: list[str], data: bytes) -> None:
    top = tmp_path_factory.mktemp("parts")
    source = top / "source"
    (source / "images").mkdir(parents=True)
    (source / "tmp" / "empty").mkdir(parents=True)
    for name in {name for name in names if name not in {".", ".."}} - {"empty"}:
        (source / "tmp" / name).write_bytes(data)
    (source / "tmp" / "link-to-it").symlink_to("/etc/passwd")
    found = folders.copy({"tmp": source / "tmp"}, top / "copy", 1 << 20)
    (top / "copy" / "images").mkdir()
    table = (*images.image_entries(top / "copy"), *folders.digests(found, top / "copy"))
    images.write(top / "copy", IMAGE, table, WORKER, NETWORK)
    with images.opened(top / "copy") as parts:
        for part in parts:
            assert part.itemsize == 1
            images.accept(top / "other", part.name, part.data)
    images.complete(top / "other")
    verified = images.verify(top / "other", WORKER.peer, NETWORK)
    (top / "task").mkdir()
    entries = tuple(entry for entry in verified.entries if entry.path.startswith("tmp"))
    folders.lay_out(entries, top / "other", top / "task", os.getuid())
    assert (top / "task" / "tmp" / "link-to-it").readlink() == Path("/etc/passwd")
    assert (top / "task" / "tmp" / "empty").is_dir()
    for path in (source / "tmp").iterdir():
        if path.is_file() and not path.is_symlink():
            assert (top / "task" / "tmp" / path.name).read_bytes() == data
            assert (top / "task" / "tmp" / path.name).stat().st_mtime_ns == path.stat().st_mtime_ns


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "task" / "out").mkdir(parents=True)
    (tmp_path / "victim").mkdir()
    (tmp_path / "task" / "out" / "deep").symlink_to(tmp_path / "victim")
    (tmp_path / "source" / "out" / "deep").mkdir(parents=True)
    (tmp_path / "source" / "out" / "deep" / "x").write_text("x")
    entry = folders.Entry("out/deep/x", "file", 0o644, 0, 1)
    with pytest.raises(Refused):
        folders.lay_out((entry,), tmp_path / "source", tmp_path / "task", os.getuid())
    assert list((tmp_path / "victim").iterdir()) == []


def test_more_than_allowed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "big").write_bytes(bytes(2000))
    with pytest.raises(Refused) as refusal:
        folders.copy({"out": tmp_path / "out"}, tmp_path / "copy", 1999)
    assert refusal.value.code == "snapshot_too_large"
