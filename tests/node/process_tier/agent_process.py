"""A node agent that kills itself at a point of its second dump: arguments are folder, images, sandbox and phase."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import trio

from node.process_tier.tier import Bench, Phase, ProcessTier
from tests.node.process_tier.workshop import NETWORK, PYTHON, WORKER, Workshop, build_workshop


async def die(workshop: Workshop, name: str, phase: str) -> None:
    """Run a job, dump it, dump it again and be gone."""
    dumps = 0
    (workshop.folder / "label").write_text(workshop.label)

    def note(now: Phase) -> None:
        nonlocal dumps
        dumps += now == "look"
        if dumps == 2 and now == phase:
            os.kill(os.getpid(), signal.SIGKILL)

    tier = ProcessTier(workshop.probed, Bench(workshop.label, workshop.images), WORKER, NETWORK, on_phase=note)
    async with workshop.running(name, workshop.task("first", (f"python3 -c '{PYTHON}'",), gates=[100])) as live:
        await live.reaches(1)
        await tier.dump(live.handle, workshop.folder / "1")
        await tier.dump(live.handle, workshop.folder / "2")


if __name__ == "__main__":
    trio.run(die, build_workshop(Path(sys.argv[1]), Path(sys.argv[2])), sys.argv[3], sys.argv[4])
