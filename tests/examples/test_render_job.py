"""examples/render: the same picture every time, whole, and as handsome as it was."""

from __future__ import annotations

import runpy
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

RunJob = Callable[[str, Path, Mapping[str, str], Path], dict[str, bytes]]
FOLDER: Final = Path(__file__).parents[2] / "examples" / "render"
SMALL: Final = {"WIDTH": "48", "HEIGHT": "33", "SAMPLES": "1"}
PYTHON: Final = Path(sys.executable)

KNOWN: Final = [
    ["0x1.2a67e3ea5f497p-4", "0x1.078f4e029b3f0p-4", "0x1.0ecc5ab8c2db0p-3"],
    ["0x1.b1a0007e550afp-7", "0x1.3b15927417865p-5", "0x1.ade7a03fa03eap-5"],
    ["0x1.8cb94329b0893p-5", "0x1.406e84c1f63acp-5", "0x1.099769e5541e8p-4"],
]


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], dict[str, object]]]:
    """Load one of the example's modules, which import each other by their bare names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield lambda name: runpy.run_path(str(FOLDER / f"{name}.py"))
    for name in ("scene", "tracer", "png"):
        sys.modules.pop(name, None)


def test_two_runs_give_the_same_picture(run_job: RunJob, tmp_path: Path) -> None:
    first = run_job("render", tmp_path / "a", SMALL, PYTHON)
    again = run_job("render", tmp_path / "b", SMALL, PYTHON)
    assert list(first) == ["picture.png"]
    assert first == again
    tiles = sorted((tmp_path / "a" / "in" / "chunks").glob("*/tile.png"))
    assert len(tiles) == 12
    assert len({tile.read_bytes() for tile in tiles}) == 12


def test_a_picture_is_a_valid_png_of_the_asked_size(run_job: RunJob, tmp_path: Path) -> None:
    data = run_job("render", tmp_path, SMALL, PYTHON)["picture.png"]
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == (48, 33)
    offset, kinds = 8, []
    while offset < len(data):
        size, kind = struct.unpack(">I4s", data[offset : offset + 8])
        checksum = struct.unpack(">I", data[offset + 8 + size : offset + 12 + size])[0]
        assert checksum == zlib.crc32(data[offset + 4 : offset + 8 + size])
        kinds.append(kind)
        offset += 12 + size
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


def test_tiles_are_cut_from_one_picture(run_job: RunJob, tmp_path: Path) -> None:
    """Another cut of the same picture has the same pixels: nothing depends on the tile."""
    one = run_job("render", tmp_path / "a", {**SMALL, "COLUMNS": "4"}, PYTHON)
    other = run_job("render", tmp_path / "b", {**SMALL, "COLUMNS": "2"}, PYTHON)
    assert one == other


def test_png_comes_back(modules: Callable[[str], dict[str, object]]) -> None:
    png = modules("png")
    encoded, decoded = png["encoded"], png["decoded"]
    assert callable(encoded)
    assert callable(decoded)
    pixels = bytes(range(2 * 3 * 3))
    assert decoded(encoded(2, 3, pixels)) == (2, 3, pixels)


def test_the_scene_has_light_and_shade(modules: Callable[[str], dict[str, object]]) -> None:
    tracer = modules("tracer")
    pixel, developed = tracer["pixel"], tracer["developed"]
    assert callable(pixel)
    assert callable(developed)
    sun, glass, floor = (pixel(x, y, 48, 32, 2) for x, y in ((10, 2), (24, 17), (30, 31)))
    assert min(sun) > 1.5
    assert sum(floor) < sum(glass) < sum(sun)
    assert [developed(light) for light in (0.0, 1e9)] == [0, 255]


def test_known_pixels_on_every_machine(modules: Callable[[str], dict[str, object]]) -> None:
    """IEEE 754 leaves no choice in `+ - * /` and square roots: these are the numbers everywhere."""
    pixel = modules("tracer")["pixel"]
    assert callable(pixel)
    found = [[channel.hex() for channel in pixel(x, y, 48, 32, 1)] for x, y in ((12, 15), (24, 18), (40, 30))]
    assert found == KNOWN
