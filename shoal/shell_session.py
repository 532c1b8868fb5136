"""A shell in a running chunk, at this terminal: keys go there, its screen comes here, its exit code is ours."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import trio

from protocol.errors import ShoalError
from protocol.overlay.tunnel_frames import Frame, Kind, resize
from shoal.forwarding import Standard, each_frame
from shoal.tunnel_line import Caller, Line, Target, only_error

STDERR: Final = 2
NO_EXIT: Final = 255
"""What ssh answers when the connection broke before the program ended."""


async def run_shell(caller: Caller, target: Target) -> int:
    """Run the shell or command; returns its exit code. Raises what kept it from starting, or broke it off."""
    shown = _sized(target)
    codes: list[int] = []
    with _raw() if shown.has_terminal else _as_it_is():
        try:
            async with caller.opened(shown) as line, trio.open_nursery() as nursery:
                nursery.start_soon(_keys, line)
                if shown.has_terminal:
                    nursery.start_soon(_sizes, line)
                await each_frame(line, Kind.EXIT, lambda frame: _show(frame, codes))
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise only_error(group) from None
    return codes[0] if codes else NO_EXIT


async def _show(frame: Frame, codes: list[int]) -> None:
    if frame.kind is Kind.DATA:
        await Standard().send_all(frame.payload)
    elif frame.kind is Kind.STDERR:
        await Standard(writing=STDERR).send_all(frame.payload)
    elif frame.kind is Kind.EXIT:
        codes.append(frame.number)


async def _keys(line: Line) -> None:
    try:
        while data := await Standard().receive_some():
            await line.send(Frame(Kind.DATA, data).pack())
        await line.send(Frame(Kind.END).pack())
    except ShoalError:
        return  # The other direction says why.


async def _sizes(line: Line) -> None:
    with trio.open_signal_receiver(signal.SIGWINCH) as changes:
        async for _ in changes:
            size = shutil.get_terminal_size()
            await line.send(resize(size.lines, size.columns).pack())


def _sized(target: Target) -> Target:
    """The target with this terminal's size and name."""
    size = shutil.get_terminal_size()
    return replace(target, rows=size.lines, columns=size.columns, term=os.environ.get("TERM") or "xterm-256color")


@contextmanager
def _raw() -> Iterator[None]:
    """Keys as they are typed, Ctrl-C too, where our input is a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0, termios.TCSADRAIN)  # What was typed ahead is for the shell.
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield
