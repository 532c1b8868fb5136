"""shoal.archive: what is packed comes out again, and nothing else ever does."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from shoal import archive


def entry(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tar(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as packed:
        for info, content in entries:
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return out.getvalue()


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_packed_files_come_out_again(tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("echo")
    (tmp_path / "a.sh").chmod(0o755)
    (tmp_path / "b.txt").write_bytes(b"\0" * 3_000)
    data = archive.pack([("run/a.sh", tmp_path / "a.sh"), ("b.txt", tmp_path / "b.txt")])
    assert archive.unpack(data, tmp_path / "out") == ("b.txt", "run/a.sh")
    assert content_of(tmp_path / "out") == {"run/a.sh": b"echo", "b.txt": b"\0" * 3_000}
    assert (tmp_path / "out" / "run" / "a.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out" / "b.txt").stat().st_mode & 0o777 == 0o644


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("x")
    (tmp_path / "two").write_text("x")
    first = archive.pack([("a", tmp_path / "one"), ("b", tmp_path / "two")])
    assert first == archive.pack([("b", tmp_path / "one"), ("a", tmp_path / "two")])


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_other_programs_pack(form: int, tmp_path: Path) -> None:
    folder = entry("./d", type=tarfile.DIRTYPE, mode=0o755)
    data = tar(
        (entry("./", type=tarfile.DIRTYPE), b""), (folder, b""), (entry("./d/a"), b"1"), (entry("b"), b"2"), form=form
    )
    assert archive.unpack(data, tmp_path / "plain") == ("b", "d/a")
    assert archive.unpack(gzip.compress(data), tmp_path / "gzipped") == ("b", "d/a")


def bomb() -> bytes:
    return gzip.compress(b"\0" * (archive.ARCHIVE_BYTES_MAX + archive.HEADERS_BYTES_MAX + 1), 9)


def claims_more() -> bytes:
    info = entry("big")
    info.size = archive.ARCHIVE_BYTES_MAX + 1
    return info.tobuf() + b"\0" * 1024


def cut_off() -> bytes:
    return tar((entry("a"), b"x" * 5_000))[:2_000]


def link(kind: bytes, target: str) -> bytes:
    return tar((entry("a", type=kind, linkname=target), b""))


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "parent": (lambda: tar((entry("../evil"), b"x")), "bad_path"),
    "parent inside": (lambda: tar((entry("a/../../evil"), b"x")), "bad_path"),
    "absolute": (lambda: tar((entry("/etc/evil"), b"x")), "bad_path"),
    "absolute folder": (lambda: tar((entry("/evil", type=tarfile.DIRTYPE), b"")), "bad_path"),
    "backslash": (lambda: tar((entry("..\\evil"), b"x")), "bad_path"),
    "newline": (lambda: tar((entry("a\nb"), b"x")), "bad_path"),
    "empty name": (lambda: tar((entry(""), b"x")), "bad_path"),
    "long name": (lambda: tar((entry("a/" * 300 + "b"), b"x")), "bad_path"),
    "link": (lambda: link(tarfile.SYMTYPE, "/etc/passwd"), "bad_path"),
    "link inside": (lambda: link(tarfile.SYMTYPE, "b"), "bad_path"),
    "hard link": (lambda: link(tarfile.LNKTYPE, "/etc/passwd"), "bad_path"),
    "device": (lambda: tar((entry("a", type=tarfile.CHRTYPE, devmajor=1, devminor=3), b"")), "bad_path"),
    "block device": (lambda: tar((entry("a", type=tarfile.BLKTYPE), b"")), "bad_path"),
    "pipe": (lambda: tar((entry("a", type=tarfile.FIFOTYPE), b"")), "bad_path"),
    "twice": (lambda: tar((entry("a"), b"1"), (entry("a"), b"2")), "bad_archive"),
    "file and folder": (lambda: tar((entry("a"), b"1"), (entry("a/b"), b"2")), "bad_archive"),
    "folder and file": (lambda: tar((entry("a/b"), b"1"), (entry("a"), b"2")), "bad_archive"),
    "not a tar": (lambda: b"hello" * 300, "bad_archive"),
    "zip": (lambda: b"PK\3\4" + bytes(600), "bad_archive"),
    "empty": (lambda: b"", "bad_archive"),
    "cut off": (cut_off, "bad_archive"),
    "damaged gzip": (lambda: gzip.compress(b"x" * 900)[:-9], "bad_archive"),
    "claims more than it has": (claims_more, "over_limit"),
    "gzip bomb": (bomb, "over_limit"),
    "too many files": (lambda: tar(*((entry(f"{n}"), b"") for n in range(2_049))), "over_limit"),
    "too many folders": (
        lambda: tar(*((entry(f"{n}", type=tarfile.DIRTYPE), b"") for n in range(2_049))),
        "over_limit",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_leave_nothing_behind(case: str, tmp_path: Path) -> None:
    make, code = HOSTILE[case]
    with pytest.raises(Refused) as caught:
        archive.unpack(make(), tmp_path / "deep" / "out")
    assert caught.value.code == code
    assert caught.value.fix
    assert content_of(tmp_path) == {}
    assert not (tmp_path / "deep" / "out").exists()


def test_an_existing_folder_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "keep").write_text("x")
    with pytest.raises(FileExistsError):
        archive.unpack(tar((entry("a"), b"1")), tmp_path)
    assert content_of(tmp_path) == {"keep": b"x"}


def test_packing_refuses_names_and_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("12345")
    with pytest.raises(Refused, match=r"\.\."):
        archive.pack([("../a", tmp_path / "a")])
    monkeypatch.setattr(archive, "ARCHIVE_BYTES_MAX", 4)
    with pytest.raises(Refused, match="at most 4") as caught:
        archive.pack([("a", tmp_path / "a")])
    assert caught.value.numbers == {"found": 5, "limit": 4}


@given(noise=st.binary(max_size=64), at=st.integers(0, 3_000))
def test_damage_never_crashes_or_escapes(noise: bytes, at: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    top = tmp_path_factory.mktemp("damaged")
    good = tar((entry("d/a"), b"x" * 700), (entry("b"), b"y"))
    damaged = good[:at] + noise + good[at + len(noise) :]
    try:
        names = archive.unpack(damaged, top / "out")
    except Refused:
        assert list(top.iterdir()) == []
    else:
        assert set(content_of(top)) == {f"out/{name}" for name in names}
