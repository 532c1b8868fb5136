"""The guest's safetensors against the library, and against hostile headers."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.guest.hook import tensorfile
from node.guest.hook.tensorfile import Damaged, Entry

TORCH = Path(__file__).parents[3] / ".venv-torch" / "bin" / "python"


def header(told: object) -> bytes:
    text = json.dumps(told).encode()
    return struct.pack("<Q", len(text)) + text


def test_what_is_written_is_read(tmp_path: Path) -> None:
    entries = {"a": Entry("F32", [2, 2], memoryview(bytes(range(16)))), "none": Entry("I64", [0], memoryview(b""))}
    size = tensorfile.write(str(tmp_path / "t"), entries)
    found = tensorfile.read(str(tmp_path / "t"))
    assert size == (tmp_path / "t").stat().st_size
    assert {name: (entry.dtype, entry.shape, bytes(entry.data)) for name, entry in found.items()} == {
        "a": ("F32", [2, 2], bytes(range(16))),
        "none": ("I64", [0], b""),
    }


@pytest.mark.skipif(not TORCH.exists(), reason="no .venv-torch with safetensors")
def test_the_library_reads_it(tmp_path: Path) -> None:
    tensorfile.write(str(tmp_path / "t"), {"a": Entry("F32", [2], memoryview(struct.pack("<2f", 1.5, -2.0)))})
    program = f"from safetensors.numpy import load_file; print(load_file({str(tmp_path / 't')!r})['a'].tolist())"
    done = subprocess.run([TORCH, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[1.5, -2.0]", done.stderr


@given(st.binary(max_size=64))
def test_any_bytes_are_tensors_or_damaged(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    with contextlib.suppress(Damaged):
        tensorfile.read(str(path))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        header({"a": 1}),
        header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}),
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}) + bytes(8),
        header({"a": {"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}}) + bytes(4),
        header({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}) + bytes(4),
    ],
    ids=["header size", "no object", "no entry", "huge", "beyond", "negative", "type", "bool"],
)
def test_headers_that_lie_are_damaged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(Damaged):
        tensorfile.read(str(tmp_path / "t"))
