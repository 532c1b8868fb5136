"""Folders to trees and back: nothing is followed, nothing is lost, and what was interrupted goes on."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.volumes import folders
from node.volumes.folders import Care
from protocol import wire
from protocol.errors import Refused
from protocol.units import MIB
from storage import pieces, trees
from storage.trees import File, Piece, Tree


class Content:
    """A tree and its pieces, and how often each was read."""

    def __init__(self, folder: Path, care: Care = folders.AS_IT_IS) -> None:
        found = folders.listed(folder, care)
        self.pieces = list(pieces.pieces(folders.contents(folder, found)))
        self.tree = folders.tree_of(found, [Piece(wire.digest(data), len(data)) for data in self.pieces])
        self.reads: list[int] = []

    def read(self, number: int) -> bytes:
        self.reads.append(number)
        return self.pieces[number]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    (top / "deep" / "er").mkdir(parents=True)
    (top / "empty").mkdir(mode=0o700)
    (top / "big.bin").write_bytes(os.urandom(9 * MIB))
    (top / "deep" / "er" / "a").write_text("a")
    (top / "deep" / "er" / "a").chmod(0o640)
    (top / "deep" / "b").touch()
    (top / "deep" / "link").symlink_to("er/a")
    (top / "dangling").symlink_to("nowhere")
    return top


def test_a_folder_comes_back(folder: Path, tmp_path: Path) -> None:
    content = Content(folder)
    target = tmp_path / "target"
    written = folders.lay_out(content.tree, target, content.read)
    assert written == 9 * MIB + 1
    again = Content(target)
    assert again.tree == content.tree
    assert (target / "empty").stat().st_mode & 0o777 == 0o700
    content.reads.clear()
    assert folders.lay_out(content.tree, target, content.read) == 0
    assert content.reads == [], "what is there is not fetched"


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c/d", "c/e", "f/g/h"]), st.binary(max_size=50)), max_size=6))
def test_any_small_folder_comes_back(tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bytes]]) -> None:
    top = tmp_path_factory.mktemp("any")
    for name, data in files:
        (top / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (top / "in" / name).write_bytes(data)
    (top / "in").mkdir(exist_ok=True)
    content = Content(top / "in")
    folders.lay_out(content.tree, top / "out", content.read)
    assert Content(top / "out").tree == content.tree


def test_an_interrupted_copy_goes_on_within_a_file(folder: Path, tmp_path: Path) -> None:
    content = Content(folder)
    assert len(content.pieces) >= 4
    target = tmp_path / "target"
    with pytest.raises(KeyboardInterrupt):
        folders.lay_out(content.tree, target, lambda number: interrupted(content, number, at=3))
    content.reads.clear()
    folders.lay_out(content.tree, target, content.read)
    assert Content(target).tree == content.tree
    assert not {0, 1, 2} & set(content.reads), "these were fetched before"
    assert not list(target.glob(".*")), "nothing is left of the interruption"


def interrupted(content: Content, number: int, at: int) -> bytes:
    if number == at:
        raise KeyboardInterrupt
    return content.read(number)


def test_a_spoiled_beginning_is_made_anew(folder: Path, tmp_path: Path) -> None:
    content = Content(folder)
    target = tmp_path / "target"
    with pytest.raises(KeyboardInterrupt):
        folders.lay_out(content.tree, target, lambda number: interrupted(content, number, at=2))
    (part,) = target.glob(f".*{folders.PART_SUFFIX}")
    with part.open("r+b") as stream:
        stream.write(b"spoiled")
    folders.lay_out(content.tree, target, content.read)
    assert Content(target).tree == content.tree


def test_only_one_path(folder: Path, tmp_path: Path) -> None:
    content = Content(folder)
    folders.lay_out(content.tree, tmp_path / "target", content.read, below="deep/er")
    assert sorted(path.name for path in (tmp_path / "target").rglob("*")) == ["a", "deep", "er"]


def test_wrong_pieces_never_get_a_name(folder: Path, tmp_path: Path) -> None:
    content = Content(folder)
    content.pieces[1] = bytes(len(content.pieces[1]))
    with pytest.raises(Refused, match="another content"):
        folders.lay_out(content.tree, tmp_path / "target", content.read)
    assert not (tmp_path / "target" / "big.bin").exists()


def test_what_is_in_the_way_is_never_followed(folder: Path, tmp_path: Path) -> None:
    content = Content(folder)
    outside = tmp_path / "outside"
    outside.mkdir()
    obstacles: list[tuple[str, Callable[[Path], object]]] = [
        ("deep", lambda path: path.symlink_to(outside)),
        ("deep", lambda path: path.write_text("a file")),
        ("big.bin", lambda path: path.mkdir()),
        ("dangling", lambda path: path.write_text("a file")),
    ]
    for name, make in obstacles:
        target = tmp_path / f"target-{len(list(tmp_path.iterdir()))}"
        target.mkdir()
        make(target / name)
        with pytest.raises(Refused) as refusal:
            folders.lay_out(content.tree, target, content.read)
        assert refusal.value.code == "in_the_way" and refusal.value.fix
    target = tmp_path / "linked"
    target.mkdir()
    (outside / "precious").write_text("keep me")
    (target / "big.bin").symlink_to(outside / "precious")
    folders.lay_out(content.tree, target, content.read)
    assert (outside / "precious").read_text() == "keep me" and not (target / "big.bin").is_symlink()
    assert [path.name for path in outside.iterdir()] == ["precious"]


def test_what_a_tree_cannot_hold_is_named(tmp_path: Path) -> None:
    for name, make, code in (
        ("absolute", lambda path: path.symlink_to("/etc/passwd"), "link_escapes"),
        ("out", lambda path: path.symlink_to("../x"), "link_escapes"),
        ("pipe", os.mkfifo, "bad_path"),
        ("new\nline", lambda path: path.touch(), "bad_path"),
        ("back\\slash", lambda path: path.touch(), "bad_path"),
    ):
        top = tmp_path / f"case-{code}-{len(name)}"
        top.mkdir()
        make(top / name)
        with pytest.raises(Refused) as refusal:
            folders.listed(top)
        assert refusal.value.code == code and refusal.value.fix, name
    plug = tmp_path / "plug"
    plug.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(plug / "s"))
        with pytest.raises(Refused, match="a device, a pipe or a socket"):
            folders.listed(plug)
    raw = tmp_path / "raw"
    raw.mkdir()
    (Path(os.fsdecode(os.fsencode(raw) + b"/\xff"))).touch()
    with pytest.raises(Refused, match="control character"):
        folders.listed(raw)


def test_a_file_that_changes_is_noticed(folder: Path) -> None:
    found = folders.listed(folder)
    (folder / "deep" / "er" / "a").write_text("longer")
    with pytest.raises(Refused, match="changed while it was read: 1 bytes, then 6"):
        list(folders.contents(folder, found))


def test_too_many_entries_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "ENTRIES_MAX", 3)
    for number in range(4):
        (tmp_path / str(number)).touch()
    with pytest.raises(Refused) as refusal:
        folders.listed(tmp_path)
    assert refusal.value.numbers == {"found": 4, "limit": 3}


def test_what_a_job_left_is_taken_the_same_everywhere(folder: Path) -> None:
    care = Care(is_plain=True, is_foreign=True)
    tree = Content(folder, care).tree
    assert {entry.mode for entry in tree.entries if not isinstance(entry, trees.Link)} == {0o755, 0o644}
    os.link(folder / "big.bin", folder / "twin")
    with pytest.raises(Refused, match="second name"):
        folders.listed(folder, care)
    assert isinstance(folders.listed(folder), list)


def test_a_hundred_thousand_entries_are_few_pieces() -> None:
    entries = tuple(File(f"{number:06}", 0o644, 10, bytes(32)) for number in range(trees.ENTRIES_MAX))
    tree = Tree(entries, (Piece(bytes(32), 10 * trees.ENTRIES_MAX),))
    data = trees.encode(tree)
    assert len(data) < 6 * MIB
    assert trees.decode(data) == tree
