"""What every script of the corpus leaves: its last state, flattened into files whose bytes say whether all is equal.

Importing it seeds Python's and NumPy's global streams, so that their next draw can be part of that state.
"""

import json
import os
import random
import sys
from pathlib import Path

import numpy as np

OUT = Path(os.environ.get("SHOAL_OUT", "out"))
random.seed(0)
np.random.seed(0)


def keep(**parts):
    """Write final.npz and final.json: arrays, plain values, and the next draw of every random stream."""
    arrays, plain = {}, {}
    for name, part in parts.items():
        flatten(name, part, arrays, plain)
    plain["random"] = [random.random(), float(np.random.random())]
    if "torch" in sys.modules:
        plain["random"].append(sys.modules["torch"].rand(()).item())
    OUT.mkdir(parents=True, exist_ok=True)
    np.savez(OUT / "final.npz", **dict(sorted(arrays.items())))
    (OUT / "final.json").write_text(json.dumps(plain, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def flatten(name, part, arrays, plain):
    """Sort the leaves of nested dicts and lists into arrays and plain values."""
    if isinstance(part, dict):
        for key, value in part.items():
            flatten(f"{name}.{key}", value, arrays, plain)
    elif hasattr(part, "detach"):
        tensor = part.detach()
        arrays[name] = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).cpu().numpy()
    elif hasattr(part, "shape"):
        arrays[name] = part
    elif isinstance(part, (list, tuple)) and any(not isinstance(item, (int, float, str, type(None))) for item in part):
        for index, value in enumerate(part):
            flatten(f"{name}.{index}", value, arrays, plain)
    elif isinstance(part, (int, float, str, bool, type(None), list, tuple)):
        plain[name] = part
    else:
        plain[name] = repr(type(part))
