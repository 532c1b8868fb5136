"""Libraries that only the results of simulations need: imported when first used, missed with the command that helps."""

from __future__ import annotations

import importlib
from types import ModuleType

from protocol.errors import Refused


def need(name: str, extra: str = "sim") -> ModuleType:
    """An optional library by its import name. Raises `Refused` (`missing_library`)."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Refused(
            f"{name} is not installed", code="missing_library", fix=f"Run `pip install 'shoal[{extra}]'`."
        ) from error
