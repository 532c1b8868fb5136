"""What a snapshot consists of: the script's frames and modules, written to a heap and put back from one."""

from __future__ import annotations

import os
import sys
import types

from . import arrays, containers, frames, iterators, loaders, objects, streams, tensors
from .heap import MISSING, Heap, Kinds
from .packing import Damaged, Ref
from .restore import Restorer, check
from .rewrite import hidden
from .tensorfile import Entry

ROOTS = ("SHOAL_OUT", "SHOAL_IN", "SHOAL_CHECKPOINT_DIR", "SHOAL_SNAPSHOT_DIR", "TMPDIR", "HOME")
"""Environment variables that name a job's folders."""

VERSION = 1
"""Of the state's layout."""


def kinds_for(users: objects.Users, blobs: dict[str, Entry] | None = None) -> Kinds:
    """All kinds of values; `blobs` are the tensors of the snapshot that is being restored."""
    kinds = Kinds(())
    containers.register(kinds)
    iterators.register(kinds)
    loaders.register(kinds)
    tensors.register(kinds, blobs)
    arrays.register(kinds, blobs)
    objects.register(kinds, users)
    return kinds


def below(path: str, root: str) -> str:
    """A file's name that is the same on every machine."""
    for folder in ("/site-packages/", "/dist-packages/"):
        if folder in path:
            return path.rpartition(folder)[2]
    relative = os.path.relpath(path, root)
    return path if relative.startswith("..") else relative


def modules_of(users: objects.Users) -> dict[str, dict[str, object]]:
    """The namespaces of the script's own modules."""
    return {name: vars(sys.modules[name]) for name in users.modules if name in sys.modules}


def namespace(variables: dict[str, object]) -> dict[str, object]:
    """What of a module's namespace is the script's."""
    return {
        name: value for name, value in variables.items()
        if not (name.startswith("__") and name.endswith("__")) and type(value) is not types.ModuleType
    }  # fmt: skip


def capture(
    stack: list[types.FrameType], users: objects.Users, root: str, moments: frozenset[int] = frozenset()
) -> tuple[dict[str, object], Heap]:
    """The state of everything that the frames reach; tensors are in the heap's blobs, not yet copied.

    `moments` are the ids of the tensors that optimizers keep for themselves.
    """
    heap = Heap(kinds_for(users))
    heap.moments = moments
    spaces: dict[str, object] = {}
    for name, variables in modules_of(users).items():
        heap.place(name)
        spaces[name] = {key: heap.slot(value, key) for key, value in namespace(variables).items()}
    told: list[object] = []
    for frame in stack:
        heap.place(frames.qualified(frame) + "()")
        inside = {} if frames.is_module(frame) else frames.variables(frame)
        told.append({
            "file": below(frame.f_code.co_filename, root),
            "name": frames.qualified(frame),
            "line": frame.f_lineno,
            "variables": {key: heap.slot(value, key) for key, value in inside.items()},
            "loops": [[site.index, _position(site.iterator, heap)] for site in frames.loops_of(frame)],
        })  # fmt: skip
    heap.finish()
    tensors.write_small(heap)
    heap.number_blobs({"tensor": 1, "array": 4})
    state: dict[str, object] = {
        "version": VERSION, "roots": roots(), "modules": spaces, "frames": told, "records": heap.records,
        "streams": streams.capture(),
    }  # fmt: skip
    return state, heap


def _position(iterator: object, heap: Heap) -> object:
    """The slot of a loop's iterator; 0 of a `while`, entered anew or not."""
    return 0 if type(iterator) is int else heap.slot(iterator, "loop")


def roots() -> dict[str, object]:
    """The job's folders, which on a node without a sandbox have other names than on the next."""
    return {name: os.environ[name] for name in ROOTS if os.environ.get(name)}


def translated(state: dict[object, object]) -> dict[object, object]:
    """A state whose texts name the folders of this machine."""
    here = roots()
    saved = _map(state.get("roots", {}))
    moves = [(str(old), str(here[str(name)])) for name, old in saved.items() if name in here and here[str(name)] != old]
    moved = _moved(state, moves) if moves else state
    return _map(moved)


def _moved(value: object, moves: list[tuple[str, str]]) -> object:
    if type(value) is str:
        for old, new in moves:
            if value == old or value.startswith(old + os.sep):
                return new + value[len(old) :]
    elif isinstance(value, list):
        return [_moved(item, moves) for item in value]
    elif isinstance(value, dict):
        return {_moved(key, moves): _moved(item, moves) for key, item in value.items()}
    return value


class Saved:
    """A snapshot that has been read and checked."""

    def __init__(self, state: dict[object, object], blobs: dict[str, Entry]) -> None:
        self.state = translated(state)
        state = self.state
        self.blobs = blobs
        self.records = check(state.get("records"))
        self.frames = _maps(state.get("frames"))
        self.modules = state.get("modules")
        if not isinstance(self.modules, dict) or state.get("version") != VERSION or not self.frames:
            raise Damaged("a state of another version, or without frames")
        self.loops = [
            (depth, *_loop(item)) for depth, frame in enumerate(self.frames) for item in _list(frame.get("loops"))
        ]
        if not self.loops:
            raise Damaged("a snapshot outside of any loop")

    def restorer(self, users: objects.Users, stack: list[types.FrameType], anchors: dict[int, object]) -> Restorer:
        """A restorer that knows what stands where now."""
        restorer = Restorer(self.records, kinds_for(users, self.blobs), anchors)
        restorer.match(self._places(users, stack))
        return restorer

    def _places(self, users: objects.Users, stack: list[types.FrameType]) -> list[tuple[object, object]]:
        places: list[tuple[object, object]] = []
        assert isinstance(self.modules, dict)
        for name, variables in modules_of(users).items():
            for key, slot in _map(self.modules.get(name, {})).items():
                if key in variables:
                    places.append((slot, variables[str(key)]))
        for frame, told in zip(stack, self.frames):
            if not frames.is_module(frame):
                inside = frames.variables(frame)
                places += [(slot, inside[str(key)]) for key, slot in _map(told["variables"]).items() if key in inside]
        return places

    def put_back(self, users: objects.Users, stack: list[types.FrameType], anchors: dict[int, object]) -> None:
        """Write every value back into the frames and modules."""
        restorer = self.restorer(users, stack, anchors)
        assert isinstance(self.modules, dict)
        spaces = [
            (variables, _values(restorer, self.modules.get(name, {})))
            for name, variables in modules_of(users).items()
        ]  # fmt: skip
        inside = [_values(restorer, told["variables"]) for told in self.frames]
        for depth, index, slot in self.loops:
            if type(slot) is Ref:
                inside[depth][hidden(index)] = restorer.get(slot)
        restorer.finish()
        for variables, values in spaces:
            variables.update(values)
        for frame, values in zip(stack, inside):
            frames.write(frame, values)


def _values(restorer: Restorer, slots: object) -> dict[str, object]:
    found = {str(name): restorer.get(slot) for name, slot in _map(slots).items()}
    return {name: value for name, value in found.items() if value is not MISSING}


def _map(value: object) -> dict[object, object]:
    if not isinstance(value, dict):
        raise Damaged("a part of the state that is no map")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise Damaged("a part of the state that is no list")
    return value


def _maps(value: object) -> list[dict[object, object]]:
    return [_map(item) for item in _list(value)]


def _loop(item: object) -> tuple[int, object]:
    pair = _list(item)
    if len(pair) != 2 or not isinstance(pair[0], int):
        raise Damaged("a loop without a number")
    return pair[0], pair[1]
