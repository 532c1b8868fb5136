"""Kinds of torch: tensors with what they share, devices, types, generators. torch is looked up, never imported.

A tensor is restored *into* the one that stands at its place if both lie in their storage the same way: so the model,
the optimizer and every alias see it, on whatever device it is. Tensors that share a storage are written with the
storage once and are views of one again.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable

from .containers import as_list
from .heap import MISSING, Asker, Heap, Kind, Kinds, Loss, Resolver
from .packing import Damaged
from .tensorfile import Entry

DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip
"""torch's (and NumPy's) names of the types that safetensors knows; others are written as bytes."""

WHOLE_STORAGE_FACTOR = 4
"""A storage is written whole if at most so many times larger than what is seen of it; else each view alone."""


AT_ONCE, AFTER_GRADIENTS, AFTER_STEP = 0, 1, 2
"""How long the bytes of a tensor may be expected to stay: not at all, until the next backward pass, or next step."""


class Blob:
    """A tensor whose bytes go into `tensors.safetensors`. `source` is read (copied) at the end of the cut, or later.

    `seen` are all tensors on this memory, `stays` says until when they are expected not to change. `copied` holds the
    bytes where they were copied later.
    """

    def __init__(self, name: str, dtype: str, shape: list[int], source: object) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.source = source
        self.seen: list[object] = []
        self.stays = AT_ONCE
        self.copied: memoryview | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.source.numel() * self.source.element_size())  # type: ignore[attr-defined]

    def take(self, is_lasting: bool) -> None:
        """Copy the bytes to host memory, so that the job may go on; `is_lasting` false = look at them in place."""
        source = self.source.detach()  # type: ignore[attr-defined]
        if source.device.type != "cpu" or not source.is_contiguous():
            self.source = source.to("cpu").contiguous()
        elif is_lasting:
            self.source = source.clone()
        else:
            self.source = source

    def entry(self) -> Entry:
        """The bytes, after they were copied."""
        return Entry(self.dtype, self.shape, bytes_of(self.source) if self.copied is None else self.copied)


def raw(tensor: object) -> bytes:
    """A copy of the bytes of a contiguous CPU tensor."""
    size = tensor.numel() * tensor.element_size()  # type: ignore[attr-defined]
    return ctypes.string_at(tensor.data_ptr(), size) if size else b""  # type: ignore[attr-defined]


def bytes_of(tensor: object) -> memoryview:
    """The memory of a contiguous CPU tensor, which has to live as long as the view."""
    size = tensor.numel() * tensor.element_size()  # type: ignore[attr-defined]
    if not size:
        return memoryview(b"")
    return memoryview((ctypes.c_char * size).from_address(tensor.data_ptr())).cast("B")  # type: ignore[attr-defined]


def write_storage(tensor: object, heap: Heap) -> str:
    """The name of the blob of the whole storage that a tensor lies in; added once."""
    library = sys.modules["torch"]
    plain = tensor.detach()  # type: ignore[attr-defined]
    storage = plain.untyped_storage()
    blob = heap.storages.get(storage.data_ptr())
    if not isinstance(blob, Blob):
        dtype, size = type_name(plain), plain.element_size()
        if dtype not in DTYPES or storage.nbytes() % size:
            dtype, size = "uint8", 1
        flat = library.empty(0, dtype=getattr(library, dtype), device=plain.device)
        flat.set_(storage, 0, [storage.nbytes() // size], [1])
        blob = Blob("storage/%d" % len(heap.blobs), DTYPES[dtype], [storage.nbytes() // size], flat)
        heap.storages[storage.data_ptr()] = blob
        heap.blobs.append(blob)
    blob.seen.append(tensor)
    if isinstance(tensor, library.nn.Parameter) or id(tensor) in heap.moments:
        blob.stays = AFTER_STEP
    elif id(tensor) in heap.gradients:
        blob.stays = max(blob.stays, AFTER_GRADIENTS)
    return blob.name


def write_small(heap: Heap) -> None:
    """Write the tensors that see little of their storage: whole storages where others or all together see more of it.

    Otherwise each gets the piece between its first and its last element, as if that were its storage.
    """
    seen: dict[int, int] = {}
    for _, tensor in heap.small:
        at = tensor.untyped_storage().data_ptr()  # type: ignore[attr-defined]
        seen[at] = seen.get(at, 0) + tensor.numel() * tensor.element_size()  # type: ignore[attr-defined]
    for index, tensor in heap.small:
        storage = tensor.untyped_storage()  # type: ignore[attr-defined]
        at, whole, record = storage.data_ptr(), storage.nbytes(), heap.records[index]
        if whole and (at in heap.storages or whole <= WHOLE_STORAGE_FACTOR * seen[at]):
            record[1], record[4] = write_storage(tensor, heap), True
        else:
            record[1], record[3], record[4] = write_piece(tensor.detach(), heap)  # type: ignore[attr-defined]
    heap.small = []


def write_piece(plain: object, heap: Heap) -> tuple[str, list[object], bool]:
    """(blob, place, whether it is one of a storage) of a tensor that is written without the rest of its storage."""
    library = sys.modules["torch"]
    shape, strides = list(plain.shape), list(plain.stride())  # type: ignore[attr-defined]
    count, size = plain.numel(), plain.element_size()  # type: ignore[attr-defined]
    span = 1 + sum((length - 1) * stride for length, stride in zip(shape, strides)) if count else 0
    dtype = type_name(plain)
    if 0 < span <= WHOLE_STORAGE_FACTOR * count:
        flat = plain.as_strided([span], [1], plain.storage_offset())  # type: ignore[attr-defined]
        if dtype not in DTYPES:
            flat, dtype = flat.view(library.uint8), "uint8"
        name = "storage/%d" % len(heap.blobs)
        heap.blobs.append(Blob(name, DTYPES[dtype], list(flat.shape), flat))
        return name, [shape, strides, 0, span * size], True
    name = "tensor/%d" % len(heap.blobs)
    kind = DTYPES.get(dtype)
    heap.blobs.append(Blob(name, kind or "U8", shape if kind else [*shape, size], plain))
    return name, [shape, strides, 0, count * size], False


def type_name(tensor: object) -> str:
    """`float32`."""
    return str(tensor.dtype).replace("torch.", "")  # type: ignore[attr-defined]


class TensorKind(Kind):
    """torch.Tensor and nn.Parameter."""

    name = "tensor"

    def __init__(self, blobs: dict[str, Entry] | None = None) -> None:
        self.blobs = blobs or {}

    def describe(self, value: object, heap: Heap) -> list[object]:
        tensor = value
        library = sys.modules["torch"]
        assert isinstance(tensor, library.Tensor)
        if tensor.layout != library.strided or tensor.is_quantized or tensor.device.type == "meta":
            raise Loss("a tensor of layout %s on %s" % (tensor.layout, tensor.device))
        plain = tensor.detach()
        dtype = type_name(tensor)
        shape, strides = list(plain.shape), list(plain.stride())
        offset, whole = plain.storage_offset(), plain.untyped_storage().nbytes()
        seen = plain.numel() * plain.element_size()
        is_view = 0 < seen <= whole <= WHOLE_STORAGE_FACTOR * seen
        blob = write_storage(tensor, heap) if is_view else ""
        if not is_view:
            heap.small.append((heap.current(), tensor))
        if isinstance(tensor, library.nn.Parameter) and tensor.grad is not None:
            heap.gradients.add(id(tensor.grad))
        gradient = heap.slot(tensor.grad if tensor.is_leaf else None, "grad")
        place = [shape, strides, offset, whole]
        flags = [isinstance(tensor, library.nn.Parameter), bool(tensor.requires_grad and tensor.is_leaf)]
        attributes = {k: heap.slot(v, k) for k, v in getattr(tensor, "__dict__", {}).items()}
        return [blob, dtype, place, is_view, str(tensor.device), flags, gradient, attributes]

    def fits(self, fields: list[object], live: object) -> bool:
        library = sys.modules.get("torch")
        if library is None or not isinstance(live, library.Tensor) or live.layout != library.strided:
            return False
        shape, strides, offset, whole = as_list(fields[2])
        plain = live.detach()
        is_alike = str(live.dtype) == "torch." + str(fields[1]) and list(plain.shape) == shape
        flags = as_list(fields[5])
        is_alike = is_alike and isinstance(live, library.nn.Parameter) == flags[0]
        is_placed = list(plain.stride()) == strides and plain.storage_offset() == offset
        return bool(is_alike and is_placed and plain.untyped_storage().nbytes() == whole)

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        own = getattr(live, "__dict__", {})
        assert isinstance(fields[7], dict)
        yield from ((slot, own[name]) for name, slot in fields[7].items() if name in own)
        if live.is_leaf and live.grad is not None:  # type: ignore[attr-defined]
            yield fields[6], live.grad  # type: ignore[attr-defined]

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        library = sys.modules.get("torch")
        if library is None:
            return MISSING
        if fields[3]:
            value = self._view(fields, restorer)
        else:
            value = self.content(fields).to(device_at(str(fields[4])), copy=True)  # type: ignore[attr-defined]
        is_parameter, requires_grad = as_list(fields[5])
        if is_parameter:
            return library.nn.Parameter(value, requires_grad=bool(requires_grad))
        return value.requires_grad_(bool(requires_grad))  # type: ignore[attr-defined]

    def _view(self, fields: list[object], restorer: Resolver) -> object:
        """A view of the storage that all views of the same blob share in the restored process."""
        shared: dict[object, object] = restorer.shared  # type: ignore[attr-defined]
        library = sys.modules["torch"]
        shape, strides, offset, _whole = as_list(fields[2])
        storage = shared.get(fields[0])
        if storage is None:
            storage = self._living(fields[0], restorer)
        if storage is None:
            flat = self._flat(fields).to(device_at(str(fields[4])), copy=True)  # type: ignore[attr-defined]
            storage = shared[fields[0]] = flat.untyped_storage()
        made = library.empty(0, dtype=getattr(library, str(fields[1])), device=storage.device)  # type: ignore[attr-defined]
        return made.set_(storage, offset, shape, strides)

    def _living(self, blob: object, restorer: Resolver) -> object:
        """The storage of a tensor of this blob that the restored process has already; it will be filled."""
        shared: dict[object, object] = restorer.shared  # type: ignore[attr-defined]
        living = shared.get("living")
        if not isinstance(living, dict):
            shared["living"] = living = {}
            for fields, live in restorer.matched("tensor"):  # type: ignore[attr-defined]
                if fields[3]:
                    living.setdefault(fields[0], live.untyped_storage())
        return living.get(blob)

    def _flat(self, fields: list[object]) -> object:
        library = sys.modules["torch"]
        return library.frombuffer(self._entry(fields).data, dtype=library.uint8)

    def _entry(self, fields: list[object]) -> Entry:
        entry = self.blobs.get(str(fields[0]))
        if entry is None:
            raise Damaged("a tensor without its bytes: " + str(fields[0])[:80])
        return entry

    def content(self, fields: list[object]) -> object:
        """The saved values: a CPU tensor over the mapped file."""
        library = sys.modules["torch"]
        dtype = getattr(library, str(fields[1]), None)
        if not isinstance(dtype, library.dtype):
            raise Damaged("no type of torch: " + str(fields[1])[:40])
        shape, strides, offset, _whole = as_list(fields[2])
        entry = self._entry(fields)
        if not entry.data.nbytes:
            return library.empty(shape, dtype=dtype)
        if fields[3]:
            storage = self._flat(fields).untyped_storage()  # type: ignore[attr-defined]
            return library.empty(0, dtype=dtype).set_(storage, offset, shape, strides)
        return library.frombuffer(entry.data, dtype=dtype).reshape(shape)

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        library = sys.modules["torch"]
        assert isinstance(target, library.Tensor)
        if fields[3]:
            self._fill_storage(fields, target, restorer)
        else:
            with library.no_grad():
                target.detach().copy_(self.content(fields))
        if target.is_leaf:
            target.requires_grad_(bool(as_list(fields[5])[1]))
            gradient = restorer.get(fields[6])
            if gradient is None or isinstance(gradient, library.Tensor):
                target.grad = gradient
        assert isinstance(fields[7], dict)
        for name, slot in fields[7].items():
            value = restorer.get(slot)
            if value is not MISSING:
                setattr(target, str(name), value)

    def _fill_storage(self, fields: list[object], target: object, restorer: Resolver) -> None:
        """Fill the memory that a tensor lies in: once, whole, so that what only other views see is the same as well."""
        library = sys.modules["torch"]
        shared: dict[object, object] = restorer.shared  # type: ignore[attr-defined]
        storage = target.untyped_storage()  # type: ignore[attr-defined]
        known = shared.get(fields[0])
        if known is not None and known.data_ptr() == storage.data_ptr():  # type: ignore[attr-defined]
            return
        flat = self._flat(fields)
        with library.no_grad():
            if known is None and storage.nbytes() == flat.numel():  # type: ignore[attr-defined]
                whole = library.empty(0, dtype=library.uint8, device=target.device)  # type: ignore[attr-defined]
                whole.set_(storage, 0, [storage.nbytes()], [1]).copy_(flat)
            else:
                target.detach().copy_(self.content(fields))  # type: ignore[attr-defined]
        shared.setdefault(fields[0], storage)


def device_at(name: str) -> str:
    """Where a tensor that was on `name` goes on this machine."""
    library = sys.modules["torch"]
    kind, _, index = name.partition(":")
    if kind == "cuda" and library.cuda.is_available():
        return name if int(index or 0) < library.cuda.device_count() else "cuda:0"
    if kind == "cpu":
        return "cpu"
    return "cuda:0" if library.cuda.is_available() else "cpu"


class TorchValueKind(Kind):
    """torch.device, torch.dtype, torch.Size, memory formats: immutable, made from their text."""

    name = "torch"
    is_shell = False

    def describe(self, value: object, heap: Heap) -> list[object]:
        if type(value).__name__ == "Size":
            assert isinstance(value, tuple)
            return ["Size", list(value)]
        return [type(value).__name__, str(value)]

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        library = sys.modules.get("torch")
        if library is None:
            return MISSING
        if fields[0] == "Size":
            return library.Size(fields[1])
        if fields[0] == "device":
            return library.device(device_at(str(fields[1])))
        value = getattr(library, str(fields[1]).rpartition(".")[2], live)
        return value if type(value).__name__ == fields[0] else live


class GeneratorKind(Kind):
    """torch.Generator."""

    name = "torch_generator"

    def describe(self, value: object, heap: Heap) -> list[object]:
        return [str(value.device), raw(value.get_state())]  # type: ignore[attr-defined]

    def fits(self, fields: list[object], live: object) -> bool:
        library = sys.modules.get("torch")
        if library is None or type(live) is not library.Generator:
            return False
        return str(getattr(live, "device", "")).split(":")[0] == str(fields[0]).split(":")[0]

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        return sys.modules["torch"].Generator(device=device_at(str(fields[0])))

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        library = sys.modules["torch"]
        assert isinstance(target, library.Generator) and isinstance(fields[1], bytes)
        if target.device.type == str(fields[0]).split(":")[0]:
            target.set_state(library.frombuffer(bytearray(fields[1]), dtype=library.uint8))


class IsTensor(Asker):
    def accepts(self, value: object) -> bool:
        library = sys.modules.get("torch")
        return library is not None and hasattr(library, "Tensor") and isinstance(value, library.Tensor)


class IsTorchValue(Asker):
    def accepts(self, value: object) -> bool:
        names = ("device", "dtype", "Size", "layout", "memory_format")
        return type(value).__module__ == "torch" and type(value).__name__ in names


class IsGenerator(Asker):
    def accepts(self, value: object) -> bool:
        library = sys.modules.get("torch")
        return library is not None and hasattr(library, "Generator") and isinstance(value, library.Generator)


def register(kinds: Kinds, blobs: dict[str, Entry] | None = None) -> None:
    """Add these kinds; `blobs` are the tensors of the snapshot that is being restored."""
    kinds.ask(IsTensor(), TensorKind(blobs))
    kinds.ask(IsTorchValue(), TorchValueKind())
    kinds.ask(IsGenerator(), GeneratorKind())
