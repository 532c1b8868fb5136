"""The node's end of the board, against a job that writes whatever it likes."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.guest.hook.board import BOARD_BYTES, FIELDS, STATES, TEXT_OFFSET, Board
from node.protection.guest_link import GO_RESTORE, VALUE_MAX, GuestLink
from node.protection.muting import HeldLines
from protocol.errors import Unavailable


async def test_orders_reach_the_job_and_its_words_come_back(tmp_path: Path) -> None:
    with GuestLink(tmp_path, is_parked=True, ram_max=77) as link:
        job = Board(str(tmp_path / "board"))
        assert (job.get("is_parked"), job.get("ram_max"), job.get("go")) == (1, 77, 0)
        assert link.news() is None
        job.say("parked", "här")
        assert (words := link.news()) is not None and (words.state, words.text) == ("parked", "här")
        assert link.news() is None
        link.release(GO_RESTORE)
        assert job.get("go") == GO_RESTORE
        wanted = link.want(hold=True)
        assert (job.get("wanted"), job.get("hold")) == (wanted, 1)
        job.set("answered", wanted)
        assert (await link.wait_answer(wanted, 1)).get("answered") == wanted
        job.close()
    assert link.read().state == "ended", "after its end nobody can be asked"
    link.order("go", 2)


async def test_waiting_for_an_answer_ends(tmp_path: Path) -> None:
    with GuestLink(tmp_path) as link:
        job = Board(str(tmp_path / "board"))
        with pytest.raises(Unavailable, match="loop head"):
            await link.wait_answer(link.want(hold=False), 0.12)
        assert await link.wait_state(("running",), 0.12) is None
        job.say("disabled", "no loops here")
        with pytest.raises(Unavailable, match="no loops here"):
            await link.wait_answer(link.want(hold=False), 5)
        assert await link.wait_state(("disabled",), 5) is not None
        job.close()


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=BOARD_BYTES + 64))
def test_any_board_can_be_read(tmp_path_factory: pytest.TempPathFactory, page: bytes) -> None:
    folder = tmp_path_factory.mktemp("board")
    with GuestLink(folder) as link:
        (folder / "board").write_bytes(page)
        words = link.read()
        assert words.state in STATES
        assert words.text.isprintable() and len(words.text) <= 1024
        assert all(0 <= words.get(field) <= VALUE_MAX for field in FIELDS)
        link.order("go", 2)


def test_control_characters_and_huge_numbers_do_not_get_through(tmp_path: Path) -> None:
    with GuestLink(tmp_path) as link, (tmp_path / "board").open("r+b") as file:
        os.pwrite(file.fileno(), struct.pack("<Q", 2**64 - 1) * len(FIELDS), 0)
        os.pwrite(file.fileno(), b"\x1b[2Jowned\n\xff\xfe", TEXT_OFFSET)
        words = link.read()
        assert (words.state, words.get("number")) == ("disabled", VALUE_MAX)
        assert words.text.startswith("[2Jowned")


def test_a_board_cannot_lead_elsewhere(tmp_path: Path) -> None:
    with GuestLink(tmp_path) as link:
        (tmp_path / "board").unlink()
        (tmp_path / "precious").write_bytes(bytes(BOARD_BYTES))
        (tmp_path / "board").symlink_to(tmp_path / "precious")
        link.want(hold=True)
        assert (tmp_path / "precious").read_bytes() == bytes(BOARD_BYTES)


def test_lines_before_the_loop_are_shown_once() -> None:
    shown: list[str] = []
    lines = HeldLines(shown.append, is_holding=True)
    lines.line("old")
    lines.fence()
    lines.line("new")
    lines.drop()
    lines.line("newer")
    assert shown == ["new", "newer"]
    lines.hold()
    lines.line("a")
    lines.fence()
    lines.line("b")
    lines.show()
    assert shown[2:] == ["a", "b"]
