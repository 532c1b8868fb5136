"""Pictures: a unit is a tile, a row of the state is its mean light, and its aux is what lies behind the mean.

The aux of a unit holds `n` (R: samples of each range), `scale` (sums are light × it), `sums` (R, height, width, 3,
light added up per range) and, where the renderer has them, `squares` (height, width, 3: squares added up over all
samples). Renderers whose light is in integers (`fixed`) give equal sums everywhere. Spec: specs/35-rendering-proof.md.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Optional

import numpy as np
import numpy.typing as npt

from .dice import Dice
from .rows import Rows, rows_of
from .tensors import Array, State
from .work import Aux

Places = npt.NDArray[np.int64]

FIXED = 1 << 20
"""Steps of light per unit of radiance: sums in these are integers, which no order of addition changes."""

BRIGHT_MAX = 16.0
"""Radiance at which one sample is cut: 4096 squares of it still fit 63 bits, and fireflies end here."""


def fixed(light: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Radiance in whole steps of 1/FIXED, cut at BRIGHT_MAX, rounded down."""
    steps: npt.NDArray[np.int64] = np.floor(np.minimum(np.maximum(light, 0.0), BRIGHT_MAX) * FIXED).astype(np.int64)
    return steps


class Tiles(Rows):
    """A region of `across` × `down` tiles of `tile` × `tile` pixels, `samples` paths each. `units` is their number."""

    across = 1
    tile = 32
    samples = 64
    ranges = 8
    """The samples are cut into this many ranges of equal length; a challenge takes all pixels of one range."""
    scale = float(FIXED)
    """Sums are light × scale: 1 where they are floats."""
    squares = True
    """Whether `measure` knows the squares of single samples."""
    pixels = 64
    """Pixels of a tile that a challenge takes with all samples."""
    crop = 0
    """Side of the square that these pixels are, where a renderer cannot do single ones; 0: scattered."""

    def measure(self, xs: Places, ys: Places, first: int, last: int) -> tuple[Array, Optional[Array]]:
        """Sums (m, 3) of the samples `first` to `last` - 1 at m pixels of the region, and of their squares."""
        raise TypeError(f"{type(self).__name__} has no method measure()")

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Samples of each range."""
        if self.samples % self.ranges:
            raise ValueError(f"{self.samples} samples do not make {self.ranges} ranges")
        return np.full(self.ranges, self.samples // self.ranges, np.int64)

    def empty(self) -> Array:
        return np.zeros((0, self.tile, self.tile, 3), np.float32)

    def row(self, index: int) -> tuple[Array, Aux]:
        xs, ys = self.places(index)
        sums, squares = self._ranges(xs, ys)
        shape = (self.tile, self.tile, 3)
        aux = {"n": self.counts, "scale": np.array([self.scale]), "sums": sums.reshape(self.ranges, *shape)}
        if squares is not None:
            aux["squares"] = squares.reshape(shape)
        return mean_light(aux["sums"], self.samples, self.scale), aux

    def partial(self, index: int, seed: bytes) -> Aux:
        xs, ys = self.places(index)
        chosen = self.chosen(index, seed)
        which = int(Dice(seed, "range", index).integers(self.ranges, 1)[0])
        length = self.samples // self.ranges
        sums, squares = self._ranges(xs[chosen], ys[chosen])
        whole, _ = self.measure(xs, ys, which * length, (which + 1) * length)
        aux = {
            "n": self.counts, "scale": np.array([self.scale]), "pixels": chosen, "pixel_sums": sums,
            "range": np.array([which], np.int64), "range_sums": whole.reshape(self.tile, self.tile, 3),
        }  # fmt: skip
        return aux if squares is None else {**aux, "pixel_squares": squares}

    def finish(self, state: State, out: Path) -> None:
        """The region as `region.pfm`, linear floats, and as `region.png` for the eye."""
        picture = self.picture(state)
        (out / "region.pfm").write_bytes(portable_float_map(picture))
        (out / "region.png").write_bytes(plain_png(picture))

    def picture(self, state: State) -> npt.NDArray[np.float32]:
        """The tiles of a state, put together: (height, width, 3), rows from the top."""
        tiles = np.asarray(rows_of(state), np.float32)
        grid = tiles.reshape(-1, self.across, self.tile, self.tile, 3).swapaxes(1, 2)
        return grid.reshape(-1, self.across * self.tile, 3)

    def places(self, index: int) -> tuple[Places, Places]:
        """Columns and rows of a tile's pixels, in the order of its tensors."""
        ys, xs = np.divmod(np.arange(self.tile * self.tile, dtype=np.int64), self.tile)
        return xs + index % self.across * self.tile, ys + index // self.across * self.tile

    def chosen(self, index: int, seed: bytes) -> Places:
        """Numbers of the pixels of a tile that a challenge takes, ascending."""
        if not self.crop:
            return np.sort(Dice(seed, "pixels", index).order(self.tile * self.tile)[: self.pixels])
        left, top = Dice(seed, "pixels", index).integers(self.tile - self.crop + 1, 2)
        side = np.arange(self.crop, dtype=np.int64)
        square: Places = ((top + side)[:, None] * self.tile + left + side).reshape(-1)
        return square

    def _ranges(self, xs: Places, ys: Places) -> tuple[Array, Optional[Array]]:
        length = self.samples // self.ranges
        found = [self.measure(xs, ys, k * length, (k + 1) * length) for k in range(self.ranges)]
        squares = None
        if self.squares:
            squares = np.sum([square for _, square in found if square is not None], axis=0)
        return np.stack([sums for sums, _ in found]), squares


def mean_light(sums: Array, samples: int, scale: float) -> npt.NDArray[np.float32]:
    """Mean of the light of all ranges, added in their order, so that everybody gets the same bits."""
    total = np.zeros(sums.shape[1:], np.float64)
    for part in sums:
        total = total + part.astype(np.float64)
    return (total / (samples * scale)).astype(np.float32)


def portable_float_map(picture: npt.NDArray[np.float32]) -> bytes:
    """The file format PFM: some text, then floats, rows from the bottom. No compressor, so no version of one."""
    height, width = picture.shape[:2]
    return b"PF\n%d %d\n-1.0\n" % (width, height) + picture[::-1].astype("<f4").tobytes()


def plain_png(picture: npt.NDArray[np.float32]) -> bytes:
    """The picture with eight bits per colour and a gamma of 2, the square root being exact. Nothing is compressed: the
    bytes of a compressor differ between its versions."""
    height, width = picture.shape[:2]
    shades = np.floor(np.sqrt(np.minimum(np.maximum(picture, 0.0), 1.0)) * 255.0 + 0.5).astype(np.uint8)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), shades.reshape(height, width * 3)], axis=1).tobytes()
    blocks = [lines[at : at + 65535] for at in range(0, len(lines), 65535)]
    stored = b"\x78\x01"
    for number, block in enumerate(blocks, start=1):
        stored += struct.pack("<BHH", number == len(blocks), len(block), len(block) ^ 0xFFFF) + block
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", stored + struct.pack(">I", zlib.adler32(lines))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def bitwise_run(threads: int = 1) -> str:
    """SHA-256 of a small picture computed by so many threads: the same on every machine that computes honestly."""
    from .ball import bitwise_run as run_ball

    return run_ball(threads)


def digests() -> dict[str, str]:
    """`bitwise_run` by one, two and four threads, for a table of machines: one value, three times."""
    return {f"{threads} threads": bitwise_run(threads) for threads in (1, 2, 4)}
