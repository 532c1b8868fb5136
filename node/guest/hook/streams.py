"""The random streams of a process: Python's, NumPy's legacy one, torch's on the CPU and on each CUDA device."""

from __future__ import annotations

import random
import sys

from .packing import Damaged
from .tensors import raw


def capture() -> dict[str, object]:
    """The state of every stream that exists, plain values only."""
    version, state, gauss = random.getstate()
    found: dict[str, object] = {"python": [version, list(state), gauss]}
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        told = numpy.random.get_state(legacy=False)
        if told["bit_generator"] == "MT19937":
            inner = told["state"]
            found["numpy"] = [inner["key"].tobytes(), int(inner["pos"]), int(told["has_gauss"]), float(told["gauss"])]
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        found["torch"] = raw(torch.get_rng_state())
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            found["cuda"] = [raw(state) for state in torch.cuda.get_rng_state_all()]
    return found


def put_back(saved: object) -> None:
    """Set every stream. Those of devices that are not here are left out. Raises Damaged."""
    if not isinstance(saved, dict):
        raise Damaged("random streams that are no map")
    try:
        version, state, gauss = saved["python"]
        random.setstate((version, tuple(state), gauss))
        numpy = sys.modules.get("numpy")
        if "numpy" in saved and numpy is not None:
            key, position, has_gauss, cached = saved["numpy"]
            numpy.random.set_state(("MT19937", numpy.frombuffer(key, dtype="u4"), position, has_gauss, cached))
        torch = sys.modules.get("torch")
        if "torch" in saved and torch is not None:
            torch.set_rng_state(torch.frombuffer(bytearray(saved["torch"]), dtype=torch.uint8))
            if "cuda" in saved and torch.cuda.is_available():
                for index, told in enumerate(saved["cuda"][: torch.cuda.device_count()]):
                    torch.cuda.set_rng_state(torch.frombuffer(bytearray(told), dtype=torch.uint8), index)
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged("random streams that cannot be set: " + str(error)[:200]) from None
