"""The frames of the script's own code: which loops run in them, and how their local variables are read and written."""

from __future__ import annotations

import ctypes
import sys
import types

from .rewrite import hidden, index_of


class Site:
    """One running loop: the frame that it is in, its number within its module, and its iterator (0 or 1: `while`)."""

    __slots__ = ("frame", "index", "iterator")

    def __init__(self, frame: types.FrameType, index: int, iterator: object) -> None:
        self.frame = frame
        self.index = index
        self.iterator = iterator


def user_frames(frame: types.FrameType | None, files: set[str]) -> list[types.FrameType]:
    """The frames of the script's own code, the outermost first."""
    found: list[types.FrameType] = []
    while frame is not None:
        if frame.f_code.co_filename in files:
            found.append(frame)
        frame = frame.f_back
    found.reverse()
    return found


def strangers(frame: types.FrameType | None, files: set[str], harmless: tuple[str, ...]) -> list[str]:
    """Functions of libraries that stand between frames of the script, so that their locals would be lost."""
    found: list[str] = []
    between: list[str] = []
    while frame is not None:
        name = frame.f_code.co_filename
        if name in files:
            found += between
            between = []
        elif not any(part in name for part in harmless):
            between.append(frame.f_code.co_name)
        frame = frame.f_back
    return found


def loops_of(frame: types.FrameType) -> list[Site]:
    """The loops that run in a frame, the outermost first."""
    variables = frame.f_globals if is_module(frame) else frame.f_locals
    found = [(index_of(name), value) for name, value in list(variables.items()) if name.startswith("__shoal_h")]
    return [
        Site(frame, index, value) for index, value in sorted(found, key=_number) if index >= 0 and value is not None
    ]


def _number(item: tuple[int, object]) -> int:
    return item[0]


def is_module(frame: types.FrameType) -> bool:
    """Whether a frame is a module's: its variables are globals."""
    return frame.f_code.co_name == "<module>"


def qualified(frame: types.FrameType) -> str:
    """The name of a frame's function, the same in every version of Python."""
    return frame.f_code.co_name


def variables(frame: types.FrameType) -> dict[str, object]:
    """What a function's frame holds, without what the hook put there."""
    code, inside = frame.f_code, frame.f_locals
    names = [*code.co_varnames, *code.co_cellvars, *code.co_freevars, *inside]  # In an order that is always the same.
    return {name: inside[name] for name in names if name in inside and not name.startswith("__shoal_")}


def write(frame: types.FrameType, values: dict[str, object]) -> None:
    """Set variables of a frame, local, enclosed or global."""
    if is_module(frame):
        frame.f_globals.update(values)
        return
    inside = frame.f_locals
    for name, value in values.items():
        inside[name] = value
    if sys.version_info < (3, 13):
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))


def set_iterator(frame: types.FrameType, index: int, iterator: object) -> None:
    """Let a running loop's hidden variable name its iterator."""
    write(frame, {hidden(index): iterator})
