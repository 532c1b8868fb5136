"""`shoal verify`: a receipt and a folder of results, and nobody is asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from protocol import wire
from protocol.jobspec import Manifest, OutputFile
from protocol.operations import EscrowClose, Operation
from shoal.cli import main
from tests.shoal.test_receipts import ESCROW, GENESIS, GOOD, OPEN, assign, receipt_of, verdict

FILES = {"0/tile.png": b"zero", "0/deep/log.txt": b"", "1/tile.png": b"one"}


def manifest_of(files: dict[str, bytes]) -> bytes:
    """The digest of a chunk's output, file by file."""
    listed = tuple(OutputFile(path, blake3(data).digest(), len(data)) for path, data in sorted(files.items()))
    return wire.digest(wire.encode(Manifest(listed)))


def chunk(number: int) -> bytes:
    head = f"{number}/"
    return manifest_of({path.removeprefix(head): data for path, data in FILES.items() if path.startswith(head)})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A genesis file, the receipt of two chunks, and their files."""
    story: tuple[Operation, ...] = (OPEN, *(assign(number, 1, GOOD) for number in (0, 1)))
    story = (*story, *(verdict(number, 1, "accept", chunk(number)) for number in (0, 1)), EscrowClose(ESCROW))
    (tmp_path / "job.receipt").write_bytes(wire.encode(receipt_of(story)))
    (tmp_path / "genesis.json").write_text(GENESIS.to_json(), encoding="utf-8")
    save(tmp_path / "result", FILES)
    return tmp_path


def save(folder: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def run(place: Path, *more: str) -> int:
    return main(["verify", str(place / "job.receipt"), "--genesis", str(place / "genesis.json"), *more])


def test_the_money_and_the_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place) == 0
    assert "result" not in capsys.readouterr().out
    assert run(place, "--result", str(place / "result")) == 0
    text = capsys.readouterr().out
    assert "the files of 2 of 2 chunks, as they were judged" in text and "\nsum 0\n" in text
    shutil.rmtree(place / "result" / "1")
    assert run(place, "--result", str(place / "result"), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["result_chunks"], told["is_closed"], sum(told["movements"].values())) == (1, True, 0)


def test_the_step_that_joins_the_others_has_one_folder(tmp_path: Path, place: Path) -> None:
    joined = {"film.mp4": b"all", "notes/0/a.txt": b"words"}
    story = (OPEN, assign(2, 1, GOOD), verdict(2, 1, "accept", manifest_of(joined)), EscrowClose(ESCROW))
    (place / "job.receipt").write_bytes(wire.encode(receipt_of(story)))
    save(place / "joined", joined)
    assert run(place, "--result", str(place / "joined")) == 0


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "a byte more": lambda folder: (folder / "1" / "tile.png").write_bytes(b"one "),
    "a file more": lambda folder: (folder / "0" / "more.txt").touch(),
    "a file less": lambda folder: (folder / "0" / "deep" / "log.txt").unlink(),
    "another name": lambda folder: (folder / "1" / "tile.png").rename(folder / "1" / "title.png"),
    "another chunk": lambda folder: (folder / "1").rename(folder / "7"),
    "no chunk": lambda folder: (folder / "1").rename(folder / "one"),
    "nothing": empty,
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_files_are_not_the_result(place: Path, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    CHANGES[change](place / "result")
    assert run(place, "--result", str(place / "result")) == 3
    assert "[result_false]" in capsys.readouterr().err


def test_what_is_not_there_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place, "--result", str(place / "elsewhere")) == 2
    assert "elsewhere is no folder [file_missing]" in capsys.readouterr().err
    (place / "job.receipt").unlink()
    assert run(place) == 2
    assert "job.receipt cannot be read" in capsys.readouterr().err
