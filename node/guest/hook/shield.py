"""The one place where anything that the hook does wrong is caught: the job must not see it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

Give = Callable[[str], None]


class Refusal(Exception):
    """The hook cannot go on, for a reason to be told to the renter."""


def guarded(work: Callable[[], None], give_up: Give) -> None:
    """Run `work`; whatever it raises is told to `give_up` in one sentence. SystemExit and interrupts pass."""
    try:
        work()
    except Refusal as refusal:
        give_up(str(refusal))
    except Exception as error:
        place = traceback.extract_tb(sys.exc_info()[2])[-1]
        file = place.filename.rsplit("/", 1)[-1]
        give_up("%s: %s (%s:%s)" % (type(error).__name__, str(error)[:300], file, place.lineno))
