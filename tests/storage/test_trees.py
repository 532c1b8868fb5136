"""Trees: what is taken, and what a stranger's list is refused for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import Refused
from storage import trees
from storage.trees import EMPTY, File, Folder, Link, Piece, Tree

D = bytes(32)
NAMES = st.sampled_from(["a", "b", "a.txt", "Ünï", "zz"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


def tree_of(paths: list[str], sizes: list[int], cuts: list[int]) -> Tree:
    """A sound tree with files at these paths, its content cut anyhow."""
    folders = {"/".join(path.split("/")[:end]) for path in paths for end in range(1, path.count("/") + 1)}
    files = [path for path in dict.fromkeys(paths) if path not in folders]
    entries: list[trees.Entry] = [*(Folder(path, 0o755) for path in folders), *(
        File(path, 0o644, size, D) for path, size in zip(files, sizes + [0] * len(files), strict=False)
    )]  # fmt: skip
    left = sum(entry.size for entry in entries if isinstance(entry, File))
    pieces: list[Piece] = []
    for cut in [*cuts, *([1 << 20] * (left >> 20)), 1 << 20]:
        if left and cut:
            pieces.append(Piece(bytes([len(pieces) % 256]) * 32, min(cut, left)))
            left -= pieces[-1].size
    return Tree(tuple(sorted(entries, key=lambda entry: trees.order(entry.path))), tuple(pieces))


@given(
    st.lists(PATHS, max_size=8), st.lists(st.integers(0, 3000), max_size=8), st.lists(st.integers(1, 999), max_size=9)
)
def test_sound_trees_come_back_and_spans_cover_them(paths: list[str], sizes: list[int], cuts: list[int]) -> None:
    tree = tree_of(paths, sizes, cuts)
    assert trees.decode(trees.encode(tree)) == tree
    stream = [(number, byte) for number, piece in enumerate(tree.pieces) for byte in range(piece.size)]
    covered: list[tuple[int, int]] = []
    for file, parts in trees.spans(tree):
        assert sum(size for _, _, size in parts) == file.size
        covered += [(number, at) for number, offset, size in parts for at in range(offset, offset + size)]
    assert covered == stream


@given(st.binary(max_size=200))
def test_bytes_never_crash_the_decoder(data: bytes) -> None:
    try:
        trees.decode(data)
    except Refused as refusal:
        assert refusal.code in ("bad_tree", "bad_path", "link_escapes", "over_limit")


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ((File("../a", 0, 0, D),), "bad_path"),
        ((File("/etc/passwd", 0, 0, D),), "bad_path"),
        ((File("a\\b", 0, 0, D),), "bad_path"),
        ((File("b", 0, 0, D), File("a", 0, 0, D)), "bad_tree"),
        ((File("a", 0, 0, D), File("a", 0, 0, D)), "bad_tree"),
        ((File("a/b", 0, 0, D),), "bad_tree"),
        ((File("a", 0, 0, D), File("a/b", 0, 0, D)), "bad_tree"),
        ((Link("a", "/etc"), File("a/b", 0, 0, D)), "link_escapes"),
        ((Link("a", "b"), File("a/passwd", 0, 0, D)), "bad_tree"),
        ((Link("a", "../x"),), "link_escapes"),
        ((Link("a", "b/../../x"),), "link_escapes"),
        ((Link("a", "x\ny"),), "link_escapes"),
        ((File("a", 0, 9, D),), "bad_tree"),
    ],
)
def test_hostile_lists_are_refused(entries: tuple[trees.Entry, ...], code: str) -> None:
    with pytest.raises(Refused) as refusal:
        trees.decode(wire.encode(Tree(entries, ())))
    assert refusal.value.code == code


def test_too_much_is_refused_with_numbers() -> None:
    with pytest.raises(Refused) as refusal:
        trees.require_room(trees.ENTRIES_MAX + 1, 0)
    assert refusal.value.numbers == {"found": trees.ENTRIES_MAX + 1, "limit": trees.ENTRIES_MAX}
    with pytest.raises(Refused):
        trees.require_room(1, trees.CONTENT_BYTES_MAX + 1)
    huge = Tree((File("a", 0o644, 2**40, D),), ())
    with pytest.raises(Refused):
        trees.decode(wire.encode(huge))


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b"]), min_size=1, max_size=5), st.integers(0, 3))
def test_links_that_are_allowed_stay_inside_wherever_others_lead(parts: list[str], depth: int) -> None:
    """The worst case for `..` behind a name is that the name is a link to the top."""
    path, target = "/".join(["d"] * depth + ["link"]), "/".join(parts)
    if not target or trees.link_problem(path, target):
        return
    level = depth
    for part in parts:
        level = {"..": level - 1, ".": level, "": level}.get(part, 0)
        assert level >= 0


def test_a_part_of_a_tree() -> None:
    tree = tree_of(["a/b", "a.txt", "zz"], [], [])
    assert [entry.path for entry in trees.subtree(tree, "a")] == ["a", "a/b"]
    assert trees.subtree(EMPTY, "") == ()
    with pytest.raises(Refused, match="no 'nowhere'"):
        trees.subtree(tree, "nowhere")
