"""One frame by Blender's Cycles on the processor, tile by tile: chunk `SHOAL_CHUNK` has a random sequence of its own.

Cycles numbers its samples, so the samples 16 to 23 of a crop can be rendered alone, and are those that the whole frame
has there. An auditor renders crops that the challenge chose. Spec: specs/35-rendering-proof.md.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import bpy
import numpy as np
import shoal_work
from scene import build
from shoal_work.rendering import Tiles


class Frame(Tiles):
    """Tiles of 32 × 32 pixels; sums are the means that Cycles gives, times their samples."""

    scale = 1.0
    squares = False  # Cycles keeps no squares: the variance law looks at the ranges alone.
    crop = 8

    def __init__(self, width, height, samples, folder, threads=0):
        super().__init__()
        self.width, self.height, self.samples, self.across = width, height, samples, width // self.tile
        self.part = os.environ.get("NUMERIC", "D2") == "D3"
        self.threads = threads
        self.file = str(Path(folder) / "crop.exr")
        self.scene = None

    def measure(self, xs, ys, first, last):
        left, right, top, bottom = int(xs.min()), int(xs.max()) + 1, int(ys.min()), int(ys.max()) + 1
        render = self.prepared().render
        # A quarter of a pixel inside, because Blender rounds these down.
        render.border_min_x, render.border_max_x = (left + 0.25) / self.width, (right + 0.25) / self.width
        render.border_min_y = (self.height - bottom + 0.25) / self.height
        render.border_max_y = (self.height - top + 0.25) / self.height
        cycles = self.scene.cycles
        cycles.use_sample_subset, cycles.sample_offset, cycles.sample_subset_length = True, first, last - first
        bpy.ops.render.render(write_still=True)
        crop = self.pixels_of_file()
        if crop.shape[:2] != (bottom - top, right - left):
            raise ValueError(f"Blender rendered {crop.shape[:2]}, not {(bottom - top, right - left)}")
        return crop[ys - top, xs - left].astype(np.float64) * (last - first), None

    def prepared(self):
        if self.scene is None:
            seed = int.from_bytes(self.seed[:4], "little") >> 1
            self.scene = build(self.width, self.height, self.samples, seed)
            render = self.scene.render
            render.use_border = render.use_crop_to_border = render.use_persistent_data = True
            render.threads_mode, render.threads = ("FIXED", self.threads) if self.threads else ("AUTO", 1)
            render.filepath, render.image_settings.file_format = self.file, "OPEN_EXR"
            render.image_settings.color_depth, render.image_settings.exr_codec = "32", "NONE"
        return self.scene

    def pixels_of_file(self):
        """What Blender has written: (height, width, 3) in 32-bit floats, rows from the top."""
        image = bpy.data.images.load(self.file)
        image.colorspace_settings.name = "Non-Color"
        found = np.empty(image.size[0] * image.size[1] * image.channels, np.float32)
        image.pixels.foreach_get(found)
        shape = image.size[1], image.size[0], image.channels
        bpy.data.images.remove(image)
        return found.reshape(shape)[::-1, :, :3]


def bitwise_run(threads):
    """SHA-256 of a small frame by this many threads: the same on machines with the same vector instructions."""
    with tempfile.TemporaryDirectory() as folder:
        work = Frame(64, 64, 16, folder, threads)
        rows = [work.row(index) for index in range(4)]
    return hashlib.sha256(b"".join(row.tobytes() + aux["sums"].tobytes() for row, aux in rows)).hexdigest()


if __name__ == "__main__":
    width, height, samples = (
        int(os.environ.get(name) or default) for name, default in (("WIDTH", 128), ("HEIGHT", 128), ("SAMPLES", 64))
    )
    with tempfile.TemporaryDirectory() as scratch:
        shoal_work.run(Frame(width, height, samples, scratch, int(os.environ.get("THREADS") or 0)))
