"""A job that takes part in snapshots by itself: it speaks the board and nothing else of the hook. Run with `-S`, so
that the real hook stays out of its way; standard library alone."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.guest.hook.board import Board

STEPS, PAUSE = int(os.environ.get("STEPS", "30")), float(os.environ.get("PAUSE", "0.03"))
CRASH_AT = int(os.environ.get("CRASH_AT", "-1"))
TRICK = os.environ.get("TRICK", "")
STAYS = int(os.environ.get("STAYS", "-1"))
GATE = Path(os.environ["SHOAL_IN"], "gate")
OUT = Path(os.environ["SHOAL_OUT"])
FURTHER = 3
"""Steps that it goes on after each snapshot before it stays again, until its gate is open."""


def open_board(snap: Path) -> Board:
    """The board's own module, from where the node has put it."""
    spec = importlib.util.spec_from_file_location("tiny_board", os.environ["SHOAL_GUEST"] + "/board.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    board: Board = module.Board(str(snap / "board"))
    return board


def write_state(folder: Path, step: int, total: int) -> None:
    """A snapshot of two numbers, one tensor and the output."""
    (folder / "files").mkdir(parents=True)
    state = b"\x82\xa5steps\xcf" + struct.pack(">Q", step) + b"\xa5total\xcf" + struct.pack(">Q", total)
    (folder / "state.msgpack").write_bytes(state)
    header = json.dumps({"w": {"dtype": "F64", "shape": [3], "data_offsets": [0, 24]}}).encode()
    numbers = struct.pack("<ddd", step, total, 0.5)
    (folder / "tensors.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + numbers)
    for path in OUT.iterdir():
        shutil.copyfile(path, folder / "files" / path.name)


def play_trick(folder: Path) -> None:
    """What a hostile job puts where a snapshot should be."""
    match TRICK:
        case "link":
            (folder / "state.msgpack").unlink()
            (folder / "state.msgpack").symlink_to("/etc/passwd")
        case "folder link":
            shutil.rmtree(folder)
            folder.symlink_to("/etc")
        case "inner link":
            (folder / "files" / "etc").symlink_to("/etc")
        case "sparse":
            os.truncate(folder / "tensors.safetensors", 1 << 30)
        case "header":
            (folder / "tensors.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + bytes(100))
        case "state":
            (folder / "state.msgpack").write_bytes(b"\x91" * 100_000)
        case "stranger":
            (folder / "evil.so").write_bytes(b"x")
        case "deep":
            (folder / "files" / "/".join("d" * 40)).mkdir(parents=True)
        case "pipe":
            os.mkfifo(folder / "files" / "pipe")
        case "hard link":
            (folder / "files" / "twice").hardlink_to(folder / "state.msgpack")
        case "absent":
            shutil.rmtree(folder)
        case _:
            pass


class Guest:
    """The least that a hook does."""

    def __init__(self, snap: Path) -> None:
        self.snap = snap
        self.board = open_board(snap)
        self.number = 0
        self.board.say("loaded")

    def first_head(self) -> tuple[int, int] | None:
        """(step, total) to go on from; None: from the beginning."""
        if not self.board.get("is_parked"):
            self.board.say("running")
            return None
        self.board.say("parked")
        while not self.board.get("go"):
            time.sleep(0.01)
        if self.board.get("go") == 1 and TRICK == "cannot restore":
            self.board.say("disabled", "this program cannot be restored")
            return None
        if self.board.get("go") == 1:
            return self.restore()
        self.board.say("running")
        return None

    def restore(self) -> tuple[int, int]:
        """What lies in `restore/`."""
        data = (self.snap / "restore" / "state.msgpack").read_bytes()
        step, total = struct.unpack_from(">Q", data, 8)[0], struct.unpack_from(">Q", data, 23)[0]
        files = self.snap / "restore" / "files"
        for path in files.iterdir() if files.is_dir() else ():
            shutil.copyfile(path, OUT / path.name)
        self.board.set("restored_step", step)
        self.board.set("steps", step)
        self.board.say("restored")
        return step, total

    def head(self, step: int, total: int) -> None:
        """The head of the loop."""
        self.board.set("steps", step)
        wanted = self.board.get("wanted")
        if wanted <= self.board.get("answered") or TRICK == "deaf":
            return
        self.number += 1
        part, folder = self.snap / f"{self.number}.part", self.snap / str(self.number)
        write_state(part, step, total)
        part.rename(folder)
        play_trick(folder)
        self.board.set("is_complete", 1)
        self.board.set("number", self.number)
        self.board.set("answered", wanted)
        while self.board.get("hold"):
            self.board.set("held", 1)
            time.sleep(0.01)
        self.board.set("held", 0)


def main() -> None:
    """Thirty steps of arithmetic that depends on every step before."""
    snap = os.environ.get("SHOAL_SNAPSHOT_DIR")
    guest = Guest(Path(snap)) if snap else None
    print("prefix", flush=True)
    found = guest.first_head() if guest else None
    step, total = found or (0, 0)
    if TRICK == "differs" and found:
        total += 1
    if TRICK == "short board" and snap:
        os.truncate(Path(snap) / "board", 0)
        guest = None
    while step < STEPS:
        if guest:
            guest.head(step, total)
        while STAYS >= 0 and not found and step >= STAYS + FURTHER * (guest.number if guest else 0) and GATE.exists():
            time.sleep(0.01)
            if guest:
                guest.head(step, total)
        total = (total * 31 + step) % 1_000_003
        step += 1
        with (OUT / "log").open("a") as file:
            file.write(f"{total}\n")
        print("step", step, flush=True)
        if step == CRASH_AT and not found:
            os.kill(os.getpid(), 11)
        time.sleep(PAUSE)
    (OUT / "result").write_text(str(total))
    if guest:
        guest.board.say("ended")


main()
sys.exit(0)
