"""The way back: which loops of the snapshot the re-executed script has come to, and what they are given."""

from __future__ import annotations

import itertools
import os
import types

from . import frames, packing, tensorfile, world
from .heap import MISSING, PLAIN
from .objects import Users
from .packing import Damaged, Ref

STATE_BYTES_MAX = 1 << 31
"""The largest `state.msgpack` that is read."""


class Resume:
    """One restore. `cursor` counts the loops of the snapshot that have been entered."""

    def __init__(self, saved: world.Saved, users: Users, root: str) -> None:
        self.saved = saved
        self.cursor = 0
        self._users = users
        self._root = root
        self._anchors: dict[int, object] = {}

    @classmethod
    def read(cls, folder: str, users: Users, root: str) -> Resume:
        """Read and check the snapshot in `folder`. Raises ValueError, OSError."""
        path = os.path.join(folder, "state.msgpack")
        if os.path.getsize(path) > STATE_BYTES_MAX:
            raise Damaged("state.msgpack is too large")
        with open(path, "rb") as file:
            state = packing.unpack(file.read())
        if not isinstance(state, dict):
            raise Damaged("a state that is no map")
        blobs = tensorfile.read(os.path.join(folder, "tensors.safetensors"))
        return cls(world.Saved(state, blobs), users, root)

    def enter(self, stack: list[types.FrameType], index: int, iterable: object) -> object:
        """What a loop that begins iterates over, if it is the next one of the snapshot; else MISSING. 1 for `while`."""
        if not self._is_next(stack, index):
            return MISSING
        _, _, slot = self.saved.loops[self.cursor]
        self.cursor += 1
        if type(slot) is not Ref:
            return 1
        return self._iterator(stack, slot, iterable)

    def _iterator(self, stack: list[types.FrameType], slot: Ref, iterable: object) -> object:
        restorer = self.saved.restorer(self._users, stack, self._anchors)
        kind = restorer.kind(slot).name
        if kind == "counted":
            restorer.adopt(slot, iterable)
        else:
            restorer.match([(slot, iter(iterable))])  # type: ignore[call-overload]
        made = restorer.filled(slot)
        item = restorer.again(slot)
        restorer.finish()  # The items that the loop still has to come to are reached from nowhere else.
        self._anchors.update(restorer.done)
        if item is MISSING:
            return made
        return itertools.chain((item,), made)  # type: ignore[arg-type]

    def _is_next(self, stack: list[types.FrameType], index: int) -> bool:
        if self.cursor >= len(self.saved.loops):
            return False
        depth, wanted, _ = self.saved.loops[self.cursor]
        return wanted == index and len(stack) == depth + 1 and self._is_path(stack)

    def has_begun(self, stack: list[types.FrameType]) -> bool:
        """Whether the outermost loop of the snapshot runs already: it cannot be entered any more."""
        depth, index, _ = self.saved.loops[0]
        if len(stack) <= depth or not self._is_path(stack[: depth + 1]):
            return False
        return any(site.index == index for site in frames.loops_of(stack[depth]))

    def _is_path(self, stack: list[types.FrameType]) -> bool:
        """Whether these frames are those of the snapshot, called from the same lines."""
        for number, (frame, told) in enumerate(zip(stack, self.saved.frames)):
            same = world.below(frame.f_code.co_filename, self._root) == told.get("file")
            if not same or frames.qualified(frame) != told.get("name"):
                return False
            if number < len(stack) - 1 and frame.f_lineno != told.get("line"):
                return False
        return True

    def is_at_last(self, stack: list[types.FrameType], index: int) -> bool:
        """Whether this head is the one of the cut."""
        depth, wanted, _ = self.saved.loops[-1]
        is_through = self.cursor == len(self.saved.loops)
        return is_through and wanted == index and len(stack) == depth + 1 == len(self.saved.frames)

    def help_along(self, frame: types.FrameType) -> None:
        """In an outer loop's unfinished round: names that have no value yet get the plain ones that they had."""
        for told in self.saved.frames:
            same = world.below(frame.f_code.co_filename, self._root) == told.get("file")
            slots = told.get("variables")
            if same and frames.qualified(frame) == told.get("name") and isinstance(slots, dict):
                inside = frame.f_globals if frames.is_module(frame) else frame.f_locals
                lacking = {
                    str(name): slot for name, slot in slots.items() if type(slot) in PLAIN and name not in inside
                }
                if lacking:
                    frames.write(frame, lacking)

    def put_back(self, stack: list[types.FrameType]) -> None:
        """Give every variable and object its value of the cut."""
        self.saved.put_back(self._users, stack, self._anchors)
