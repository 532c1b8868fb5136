"""What a machine renders, for a table of honest errors: `python measure.py OUT FRAMES [CHEAT]`.

Writes OUT/<frame>.<tile>.aux. Under another environment (CYCLES_CPU_NO_AVX2=1) the same frames show how far two kinds
of processors are apart; with the name of a cheat, how far that is from both.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import bpy
import shoal_work
from render import Frame

TILES = 16


def main(out, frames, cheat):
    """`frames` frames of 128 × 128 pixels, each with its own seed."""
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(frames):
            work = Frame(128, 128, 64, scratch, 2)
            work.seed = hashlib.sha256(b"frame %d" % number).digest()
            spoil(work.prepared(), cheat)
            for index in range(TILES):
                (out / f"{number}.{index}.aux").write_bytes(shoal_work.encode(dict(work.row(index)[1])))


def spoil(scene, cheat):
    """Render cheaper, or something else."""
    if cheat == "three bounces":
        scene.cycles.max_bounces = 3
    elif cheat == "clamped light":
        scene.cycles.sample_clamp_indirect = 1.0
    elif cheat == "other seed":
        scene.cycles.seed += 1
    elif cheat == "dimmer lamp":
        bpy.data.objects["Area"].data.energy *= 0.99
    elif cheat:
        raise SystemExit(f"no cheat is called {cheat!r}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
