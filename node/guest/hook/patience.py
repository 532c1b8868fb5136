"""Copies beside the running job what only an optimizer's step changes: the next step waits until they are done.

Between a loop head and the next step, parameters and an optimizer's moments are read only, gradients mostly replaced.
Their bytes are copied by the writer's thread while the next round computes; on a GPU by a stream of its own into
pinned memory. Whoever changes one of them nevertheless is noticed: by the tensors' version counters, and by a look at
`Tensor.data`, the way around these. Then this snapshot is dropped, and such tensors are copied in the cut from then on.
"""

from __future__ import annotations

import builtins
import ctypes
import mmap
import sys
import threading
import weakref
from collections.abc import Callable

from .shield import Refusal
from .tensors import AFTER_GRADIENTS, AFTER_STEP, AT_ONCE, Blob

LATER_BYTES_MIN = 64 * 1024
"""Smaller tensors are copied in the cut: a few microseconds each."""

CHUNK_BYTES = 16 * 1024 * 1024
"""One copy without the interpreter's lock; after it a copy that has become useless ends."""

ALIGN = 64
"""Bytes that a tensor's copy is aligned to."""


class Pending:
    """The copies that one cut left. `blobs` are copied by `copy` in the writer's thread, and checked by the job's."""

    def __init__(self, blobs: list[Blob]) -> None:
        self.blobs = blobs
        self.changed = AT_ONCE
        self._versions = [[tensor._version for tensor in blob.seen] for blob in blobs]  # type: ignore[attr-defined]
        self._copied = threading.Event()
        self._checked = threading.Event()
        self._on_host = [blob for blob in blobs if is_on_host(blob)]
        self._devices = Devices([blob for blob in blobs if not is_on_host(blob)])
        self._detour = Detour({blob.source.data_ptr() for blob in blobs})  # type: ignore[attr-defined]

    def copy(self) -> None:
        """In the writer's thread: copy all."""
        try:
            self._devices.begin()
            copy_on_host(self._on_host, self._detour.is_touched)
        finally:
            builtins.__shoal_due__ = True  # type: ignore[attr-defined]  # The next loop head may settle.
            self._copied.set()

    def is_copied(self) -> bool:
        """Whether nobody has to wait."""
        return self._copied.is_set()

    def settle(self) -> int:
        """In the job's thread, between two operations: wait, and say which kind of tensors was changed: AT_ONCE = none.

        A change counts its version when it is over, so the writer's own look could come too early.
        """
        self._copied.wait()
        self._devices.order_behind()
        if self._detour.end():
            self.changed = AFTER_STEP
        for blob, versions in zip(self.blobs, self._versions):
            if versions != [tensor._version for tensor in blob.seen]:  # type: ignore[attr-defined]
                self.changed = max(self.changed, blob.stays)
        self._checked.set()
        return self.changed

    def check(self) -> None:
        """In the writer's thread: wait until the job has settled. Raises Refusal where the copies are worth nothing."""
        self._checked.wait()
        if self.changed:
            raise Refusal("a tensor was changed while it was copied")
        self._devices.finish()
        for blob in self._on_host:
            blob.seen, blob.source = [], None  # Old gradients may go.


class Patience:
    """Which tensors may be copied later, as far as this script has shown."""

    def __init__(self) -> None:
        self._optimizers: list[weakref.ref[object]] = []
        self._stays: tuple[int, ...] = (AFTER_GRADIENTS, AFTER_STEP)

    def follow(self, optimizer: object) -> None:
        """An optimizer has been made."""
        self._optimizers.append(weakref.ref(optimizer))

    def moments(self) -> frozenset[int]:
        """The ids of the tensors that optimizers hold as their state."""
        found: set[int] = set()
        self._optimizers = [reference for reference in self._optimizers if reference() is not None]
        for reference in self._optimizers:
            state = getattr(reference(), "state", None)
            for own in state.values() if isinstance(state, dict) else ():
                found.update(id(item) for item in own.values() if hasattr(item, "untyped_storage"))
        return frozenset(found)

    def begin(self, blobs: list[object]) -> Pending | None:
        """What of a cut may be copied later; None where nothing may, or no step would wait for it."""
        torch = sys.modules.get("torch")
        if torch is None or not self._optimizers or "data" in torch.Tensor.__dict__:
            return None
        later = [blob for blob in blobs if isinstance(blob, Blob) and self._may_wait(blob)]
        return Pending(later) if later else None

    def _may_wait(self, blob: Blob) -> bool:
        if blob.stays not in self._stays or blob.size < LATER_BYTES_MIN:
            return False
        kind = blob.source.device.type  # type: ignore[attr-defined]
        if kind == "cpu":  # Memory that is not torch's own may be written by others.
            return bool(blob.source.untyped_storage().resizable()) and _are_counted(blob)  # type: ignore[attr-defined]
        # Gradients of a GPU would be kept alive beside the next ones, in memory that the job may need.
        return kind == "cuda" and blob.stays == AFTER_STEP and _are_counted(blob)

    def settle(self, pending: Pending) -> None:
        """End a cut's copies, and learn from it."""
        changed = pending.settle()
        if changed == AFTER_GRADIENTS:
            self._stays = (AFTER_STEP,) if AFTER_STEP in self._stays else ()
        elif changed:
            self._stays = ()


def _are_counted(blob: Blob) -> bool:
    return not any(tensor.is_inference() for tensor in blob.seen)  # type: ignore[attr-defined]


def is_on_host(blob: Blob) -> bool:
    """Whether its tensor lies in the host's memory."""
    return bool(blob.source.device.type == "cpu")  # type: ignore[attr-defined]


def copy_on_host(blobs: list[Blob], is_useless: Callable[[], bool]) -> None:
    """Copy tensors of the host into one fresh piece of memory."""
    total = sum(-(-blob.size // ALIGN) * ALIGN for blob in blobs)
    if not total:
        return
    arena = mmap.mmap(-1, total)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        arena.madvise(mmap.MADV_HUGEPAGE)  # A page fault for every two megabytes, not for every four kilobytes.
    view = memoryview(arena)
    target = ctypes.addressof(ctypes.c_char.from_buffer(arena))
    at = 0
    for blob in sorted(blobs, key=_until):
        size, source = blob.size, blob.source.data_ptr()  # type: ignore[attr-defined]
        for done in range(0, size, CHUNK_BYTES):
            if is_useless():
                return
            ctypes.memmove(target + at + done, source + done, min(CHUNK_BYTES, size - done))
        blob.copied = view[at : at + size]
        at += -(-size // ALIGN) * ALIGN


def _until(blob: Blob) -> int:
    return blob.stays


class Devices:
    """What of a cut's copies lies on GPUs: per device a stream, an event, and pinned memory from torch's cache.

    The job's stream waits for the event before the next step, the job's thread does not.
    """

    def __init__(self, blobs: list[Blob]) -> None:
        self._blobs = blobs
        self._ready: dict[object, object] = {}
        self._done: dict[object, object] = {}
        if blobs:
            cuda = sys.modules["torch"].cuda
            for device in {blob.source.device for blob in blobs}:  # type: ignore[attr-defined]
                self._ready[device] = cuda.current_stream(device).record_event()

    def begin(self) -> None:
        """Order the copies, behind what the job had ordered up to the cut."""
        torch = sys.modules.get("torch")
        for device, ready in self._ready.items():
            assert torch is not None
            stream = torch.cuda.Stream(device)
            stream.wait_event(ready)
            with torch.cuda.stream(stream):
                for blob in self._blobs:
                    if blob.source.device == device:  # type: ignore[attr-defined]
                        blob.source = copied_to_host(blob.source)
                self._done[device] = stream.record_event()

    def order_behind(self) -> None:
        """Let what the job orders from now on wait, on the GPU, until the copies are done."""
        for device, done in self._done.items():
            sys.modules["torch"].cuda.current_stream(device).wait_event(done)

    def finish(self) -> None:
        """Wait until the copies are done."""
        for done in self._done.values():
            done.synchronize()  # type: ignore[attr-defined]


def copied_to_host(source: object) -> object:
    """A copy under way into pinned memory, or a finished one into common memory where there is none to be pinned."""
    torch = sys.modules["torch"]
    plain = source.detach()  # type: ignore[attr-defined]
    try:
        target = torch.empty(plain.shape, dtype=plain.dtype, pin_memory=True)
    except RuntimeError:  # The host does not let so much be pinned.
        target = torch.empty(plain.shape, dtype=plain.dtype)
        step = max(1, CHUNK_BYTES // plain.element_size())
        for at in range(0, plain.numel(), step):
            target[at : at + step].copy_(plain[at : at + step])
        return target
    target.copy_(plain, non_blocking=True)
    plain.record_stream(torch.cuda.current_stream(plain.device))
    return target


class Detour:
    """While copies are under way: whether someone asked for the `data` of a tensor, or replayed a recorded graph.

    What is changed through `data` counts no version, nor does what a CUDA graph does. `pointers` name the memory.
    """

    def __init__(self, pointers: set[int]) -> None:
        self._touched = False
        self._graphs: object = None
        torch = sys.modules["torch"]
        plain = torch._C.TensorBase.data

        def get(tensor: object) -> object:
            found = plain.__get__(tensor)
            if found.untyped_storage().data_ptr() in pointers:
                self._touched = True
            return found

        torch.Tensor.data = property(get, plain.__set__)
        graphs = sys.modules.get("torch.cuda.graphs")
        self._replay = getattr(getattr(graphs, "CUDAGraph", None), "replay", None)
        if self._replay is not None and torch.cuda.is_initialized():
            replay = self._replay
            self._graphs = graphs

            def replayed(graph: object) -> object:
                self._touched = True
                return replay(graph)

            graphs.CUDAGraph.replay = replayed  # type: ignore[union-attr]

    def is_touched(self) -> bool:
        """So far."""
        return self._touched

    def end(self) -> bool:
        """The same; tensors and graphs are as torch has them again."""
        torch = sys.modules["torch"]
        if "data" in torch.Tensor.__dict__:
            del torch.Tensor.data
        if self._graphs is not None:
            self._graphs.CUDAGraph.replay = self._replay  # type: ignore[attr-defined]
            self._graphs = None
        return self._touched
